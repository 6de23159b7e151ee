"""How policies for services are made and judged."""
