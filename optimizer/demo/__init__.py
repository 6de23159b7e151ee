"""`spotwise demo`: the whole loop on embedded sample markets, ending with one HTML page."""
