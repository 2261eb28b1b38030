//! Builds Cell's tree out of sorted records before anything is measured.

use super::clients::spinner;
use crate::args::Plan;
use crate::cell::{Image, Shape, TREE};
use crate::cluster::Cluster;
use crate::load::{Shared, Tree};
use crate::measurement::Measurement;
use crate::mica;
use crate::workload::keys::fnv;
use crate::workload::values::Stamp;
use crate::workload::versions::Ending;
use anyhow::Result;
use std::time::Instant;

/// Sorts the records by their keys, builds the tree, and puts it into the region, with room for `capacity` records. Every record has version 1
/// then, as if it had been inserted.
pub fn load(plan: &Plan, shape: Shape, capacity: u64, cluster: &Cluster) -> Result<(Shared, Measurement)> {
    let (records, value_bytes) = (plan.common.records, usize::from(plan.common.value_bytes));
    let progress = spinner(format!("building a tree of {records} records"));
    let started = Instant::now();
    let mut keys: Vec<(u64, u64)> = (0..records).map(|number| (fnv(number), number)).collect();
    keys.sort_unstable();
    let mut tree = Tree { shape, order: Vec::new(), places: Vec::new(), scan_records_max: plan.scan_records_max };
    if plan.mix.scan_percent > 0 {
        tree.order = keys.iter().map(|(key, _)| *key).collect();
        tree.places = vec![0; records as usize];
        for (place, (_, number)) in keys.iter().enumerate() {
            tree.places[*number as usize] = place as u32;
        }
    }
    let image = Image::new(shape, keys, move |number, value| Stamp::Versioned.fill(number, 1, &mut value[..value_bytes]));
    let length_bytes = image.length_bytes();
    cluster.load_region(TREE.0, Box::new(image), length_bytes)?;
    let shared = Shared::new(Stamp::Versioned, capacity, plan.key_bytes, value_bytes, Some(tree));
    while let Some(number) = shared.versions.take_number(records) {
        shared.versions.begin_write(number);
        shared.versions.end_insert(number, Ending::Done);
    }
    let elapsed = started.elapsed();
    progress.finish_and_clear();
    Ok((shared, Measurement { elapsed, results: [(mica::OK, records)].into(), ..Measurement::default() }))
}
