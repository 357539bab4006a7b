"""What each lever gains on this device, against diffusers' own pipeline: `videosvc bench`."""
