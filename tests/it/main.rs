//! The one integration test binary: what crosses modules, or needs files.

// The bundled captures against their generator.
mod captures;
