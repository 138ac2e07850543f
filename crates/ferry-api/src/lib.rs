//! Wire types, errors and client of the Docker Engine API.
