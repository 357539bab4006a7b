"""videosvc: text to video on your own device."""

__version__ = "0.1.0"
