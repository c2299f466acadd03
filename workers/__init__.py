"""The science: plain PyTorch, without Ray and without the orchestrator."""
