"""Rules and tables of spoken forms: how a written number, date, sum or measure is said in each language."""
