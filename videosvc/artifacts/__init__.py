"""What finished jobs leave: the clip, its previews, and how long they are kept."""
