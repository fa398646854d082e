"""What is tested here has kernels; each test runs with them and without."""

from tests.kernels import way

__all__ = ["way"]
