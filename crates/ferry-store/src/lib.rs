//! Bytes at rest: blobs, layers, snapshots, images, volumes, metadata, garbage collection.
