//! `naam-run region`.

use crate::args::Region;
use crate::failure::{Failure, at_cluster};
use naamc::output::OutputFile;
use naamc::quantity::{counted, grouped, show_bytes};
use runtime::control::client::Control;
use runtime::supervisor::api::CreateRegion;
use runtime::supervisor::records::RegionRecord;
use serde_json::json;
use std::fs::File;
use std::path::Path;

/// Runs one of the commands on regions.
pub fn run(control: &Control, command: &Region, as_json: bool) -> Result<(), Failure> {
    match command {
        Region::Create { name, bytes, huge_pages, from } => create(control, name, *bytes, *huge_pages, from.as_deref(), as_json),
        Region::Save { name, file } => save(control, name, file, as_json),
        Region::Load { name, file } => load(control, name, file, as_json),
        Region::Remove { name } => {
            control.remove_region(name)?;
            crate::print(as_json, &json!({ "removed": name }), || format!("Removed region {name}."))
        }
        Region::List => {
            let regions = control.regions()?;
            crate::print(as_json, &regions, || table(&regions, &control.address().name))
        }
    }
}

/// Regions as lines.
pub fn table(regions: &[RegionRecord], cluster: &str) -> String {
    if regions.is_empty() {
        return at_cluster("No regions. `naam-run region create NAME --bytes N` makes one.", cluster);
    }
    let width = regions.iter().map(|region| region.name.len()).max().unwrap_or(0);
    let lines = regions.iter().map(|region| {
        let pages = if region.huge_pages { ", huge pages" } else { "" };
        format!("{:width$}  {}{pages}, generation {}", region.name, show_bytes(region.length_bytes), region.generation)
    });
    lines.collect::<Vec<String>>().join("\n")
}

fn create(control: &Control, name: &str, bytes: u64, huge_pages: bool, from: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let source = from.map(open).transpose()?;
    if let (Some((_, length_bytes)), Some(path)) = (&source, from)
        && *length_bytes > bytes
    {
        let length = counted(*length_bytes, "byte");
        return Err(Failure::refused(
            "too-large",
            format!("{} has {length}: more than --bytes {}", path.display(), grouped(bytes)),
        ));
    }
    let region = control.create_region(name, &CreateRegion { length_bytes: bytes, huge_pages })?;
    if let Some((file, length_bytes)) = source
        && let Err(error) = control.load_region(name, Box::new(file), length_bytes)
    {
        // Half a region helps nobody. Why it is half is what counts, even if it has to stay.
        let failure = Failure::from(error);
        return Err(match control.remove_region(name) {
            Ok(_) => failure,
            Err(_) => failure.hint(format!("it stays as far as it is loaded: `naam-run region remove {name}` removes it")),
        });
    }
    crate::print(as_json, &region, || format!("Created region {name}: {}.", show_bytes(region.length_bytes)))
}

fn save(control: &Control, name: &str, path: &Path, as_json: bool) -> Result<(), Failure> {
    let mut file = OutputFile::create(path).map_err(Failure::usage)?;
    let length_bytes = control.save_region(name, &mut file).map_err(|error| match file.failed() {
        true => Failure::usage(error.message),
        false => Failure::from(error),
    })?;
    file.finish().map_err(Failure::usage)?;
    let value = json!({ "region": name, "file": path, "length_bytes": length_bytes });
    crate::print(as_json, &value, || format!("Saved region {name} to {}: {}.", path.display(), show_bytes(length_bytes)))
}

fn load(control: &Control, name: &str, path: &Path, as_json: bool) -> Result<(), Failure> {
    let (file, length_bytes) = open(path)?;
    let regions = control.regions()?;
    if let Some(region) = regions.iter().find(|region| region.name == name)
        && region.length_bytes < length_bytes
    {
        return Err(Failure::refused(
            "too-large",
            format!("{} has {}, region {name} {}", path.display(), counted(length_bytes, "byte"), grouped(region.length_bytes)),
        )
        .hint("create a region that is long enough"));
    }
    let loaded = control.load_region(name, Box::new(file), length_bytes)?;
    let value = json!({ "region": name, "file": path, "length_bytes": loaded });
    crate::print(as_json, &value, || format!("Loaded {} from {} into region {name}.", show_bytes(loaded), path.display()))
}

fn open(path: &Path) -> Result<(File, u64), Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Failure::usage(format!("{} is not a file", path.display())));
    }
    Ok((file, metadata.len()))
}
