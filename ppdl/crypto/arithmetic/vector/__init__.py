"""Arithmetic mod m^2 on eight numbers side by side, with the 52-bit multiplications of AVX-512 (IFMA)."""
