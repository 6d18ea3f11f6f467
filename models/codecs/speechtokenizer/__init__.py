"""SpeechTokenizer (arXiv 2308.16692): a SEANet codec whose first level was taught by HuBERT."""
