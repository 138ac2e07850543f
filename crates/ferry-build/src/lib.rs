//! Dockerfile to build graph to solver with content cache to image.
