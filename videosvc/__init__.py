"""videosvc: text to video with a price known beforehand, on your own device."""

__version__ = "0.1.0"
