"""How deciders are made and judged: training, tracking, evaluation, promotion."""
