"""Tables of the README and of docs/, each made from the files in benchmarks/results."""
