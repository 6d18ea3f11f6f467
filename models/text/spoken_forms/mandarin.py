"""Whole numbers in Mandarin."""

from __future__ import annotations


def mandarin(number: int) -> str:
    """Mandarin for 0 <= number < 10^16, in groups of four digits."""
    if number == 0:
        return "零"
    groups = [
        (number // 10**power % 10**4, sign) for power, sign in ((12, "万亿"), (8, "亿"), (4, "万"), (0, ""))
    ]
    said = ""
    for group, sign in groups:
        if group:
            words = "两" if group == 2 and sign and not said else _group(group)
            said += ("零" if said and group < 1000 else "") + words + sign
    return said.removeprefix("一") if said.startswith("一十") else said


def _group(group: int) -> str:
    said, gap = "", False
    for power, sign in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = group // power % 10
        if digit:
            said += ("零" if gap and said else "") + "零一二三四五六七八九"[digit] + sign
        gap = digit == 0
    return said
