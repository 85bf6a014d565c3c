"""The sections of the page, a file each: `add(study, page)` adds one, from top to bottom."""
