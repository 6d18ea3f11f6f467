"""The steps of a job: each a worker class that maps an Arrow table to an Arrow table and knows nothing of Ray."""
