//! Recordings in the formats of other tools.

use aioxide::timeline::{self, Freeze, LaneInfo, LaneKind, Recording, Slice, State};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// The dictionary of a recording, as `Recording.to_dict()` documents it, as a trace for Perfetto.
#[pyfunction]
pub fn timeline_perfetto<'py>(data: &Bound<'py, PyDict>, pid: u32, process: &str) -> PyResult<Bound<'py, PyBytes>> {
    let py = data.py();
    let recording = from_dict(data)?;
    let trace = py.detach(|| timeline::perfetto(&recording, pid, process));
    Ok(PyBytes::new(py, &trace))
}

fn item<'py>(data: &Bound<'py, PyDict>, key: &str) -> PyResult<Bound<'py, PyAny>> {
    data.get_item(key)?.ok_or_else(|| PyKeyError::new_err(key.to_owned()))
}

fn from_dict(data: &Bound<'_, PyDict>) -> PyResult<Recording> {
    let mut slices = Vec::new();
    for slice in item(data, "slices")?.try_iter()? {
        let (lane, start, end, name, state): (u32, u64, u64, u32, String) = slice?.extract()?;
        let state = State::named(&state).ok_or_else(|| PyValueError::new_err(format!("unknown state {state:?}")))?;
        slices.push(Slice { lane, start, end, name, state });
    }
    let mut lanes = Vec::new();
    for lane in item(data, "lanes")?.try_iter()? {
        lanes.push(lane_from(lane?.cast::<PyDict>()?)?);
    }
    let freezes: Vec<(u32, u64, u64, String)> = item(data, "freezes")?.extract()?;
    Ok(Recording {
        start_ns: item(data, "start_ns")?.extract()?,
        end_ns: item(data, "end_ns")?.extract()?,
        clock_error_ns: item(data, "clock_error_ns")?.extract()?,
        dropped: item(data, "dropped")?.extract()?,
        grouped_steps: item(data, "grouped_steps")?.extract()?,
        names: item(data, "names")?.extract()?,
        lanes,
        slices,
        wakes: item(data, "wakes")?.extract()?,
        marks: item(data, "marks")?.extract()?,
        freezes: freezes.into_iter().map(|(lane, start, end, text)| Freeze { lane, start, end, text }).collect(),
    })
}

fn lane_from(lane: &Bound<'_, PyDict>) -> PyResult<LaneInfo> {
    let kind: String = item(lane, "kind")?.extract()?;
    Ok(LaneInfo {
        id: item(lane, "id")?.extract()?,
        name: item(lane, "name")?.extract()?,
        kind: LaneKind::named(&kind).ok_or_else(|| PyValueError::new_err(format!("unknown kind {kind:?}")))?,
        thread: item(lane, "thread")?.extract()?,
        group: item(lane, "group")?.extract()?,
        source: item(lane, "source")?.extract()?,
    })
}
