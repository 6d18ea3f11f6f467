"""Samplers: schedules, draws and decisions over a closure that gives logits."""
