"""How the site is made from these pages: its navigation, its generated pages, its diagrams, its check."""
