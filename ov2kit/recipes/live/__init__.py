"""A model beside a stream: what it remembers, when it is called, what it answers."""
