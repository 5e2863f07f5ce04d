//! Tells the compiler what the Python that is built for is like (`Py_GIL_DISABLED` above all).

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
