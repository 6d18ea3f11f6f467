"""Reading datasets back: rows, their audio, reports, formats of other programs."""
