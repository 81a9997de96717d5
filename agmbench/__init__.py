"""agmbench: a benchmark of multimodal learning under gradient modulation."""
