"""The HTTP face: requests in, JSON out. Pydantic stays in this room; the others get frozen dataclasses."""
