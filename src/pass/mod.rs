//! Rewrites from Graph to Graph, and the lists that run them. Each is followed by the verifier.
