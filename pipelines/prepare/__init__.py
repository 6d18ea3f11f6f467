"""The parts of the prepare job: settings, steps, pending and known recordings."""
