# sample steps
