"""What a clip costs before it is made, which plan fits a cap, and what is charged after. Nothing here needs torch."""
