"""Configuration: settings, presets, models, device prices; and the place where a request becomes a plan."""
