"""Speech judged against text, prompt and reference: judges, the table of figures and its page."""
