//! Where a cluster keeps what it knows: records of regions, deployments and grants, as JSON under keys.
//!
//! [`Store`] is what a cluster needs of its memory, and all it needs. [`Embedded`] keeps it in the supervisor; a store that many machines
//! share implements the same trait. Resources (descriptors, processes) are never in a store.

use super::error::{Code, ControlError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Records under keys. Keys are paths of names: `regions/NAME`.
pub trait Store: Send {
    /// The record under `key`.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, ControlError>;
    /// Sets the record under `key`.
    fn put(&mut self, key: &str, record: Vec<u8>) -> Result<(), ControlError>;
    /// Removes the record under `key`, if there is one.
    fn remove(&mut self, key: &str) -> Result<(), ControlError>;
    /// All records whose keys begin with `prefix`, ascending by key.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, ControlError>;
}

/// A store that lives and dies with its supervisor.
#[derive(Debug, Default)]
pub struct Embedded {
    records: BTreeMap<String, Vec<u8>>,
}

impl Store for Embedded {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, ControlError> {
        Ok(self.records.get(key).cloned())
    }

    fn put(&mut self, key: &str, record: Vec<u8>) -> Result<(), ControlError> {
        self.records.insert(key.to_owned(), record);
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), ControlError> {
        self.records.remove(key);
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, ControlError> {
        let from = self.records.range(prefix.to_owned()..);
        Ok(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(key, record)| (key.clone(), record.clone())).collect())
    }
}

/// One kind of records in a store.
pub trait Record: Serialize + DeserializeOwned {
    /// What the keys of this kind begin with, its `/` included.
    const PREFIX: &'static str;
}

/// Typed access to any store.
pub struct Records(Box<dyn Store>);

impl Records {
    /// Over this store.
    pub fn new(store: Box<dyn Store>) -> Records {
        Records(store)
    }

    /// The record of this name.
    pub fn get<R: Record>(&self, name: &str) -> Result<Option<R>, ControlError> {
        self.0.get(&key::<R>(name))?.map(|bytes| parse(&bytes)).transpose()
    }

    /// Sets the record of this name.
    pub fn put<R: Record>(&mut self, name: &str, record: &R) -> Result<(), ControlError> {
        self.0.put(&key::<R>(name), serde_json::to_vec(record).map_err(|error| damaged(&error))?)
    }

    /// Removes the record of this name.
    pub fn remove<R: Record>(&mut self, name: &str) -> Result<(), ControlError> {
        self.0.remove(&key::<R>(name))
    }

    /// All records of a kind whose names begin with `prefix`, ascending by name.
    pub fn list<R: Record>(&self, prefix: &str) -> Result<Vec<R>, ControlError> {
        self.0.list(&key::<R>(prefix))?.iter().map(|(_, bytes)| parse(bytes)).collect()
    }
}

fn key<R: Record>(name: &str) -> String {
    format!("{}{name}", R::PREFIX)
}

fn parse<R: Record>(bytes: &[u8]) -> Result<R, ControlError> {
    serde_json::from_slice(bytes).map_err(|error| damaged(&error))
}

fn damaged(error: &serde_json::Error) -> ControlError {
    ControlError::new(Code::System, format!("the cluster's store holds a damaged record: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Record for u32 {
        const PREFIX: &'static str = "numbers/";
    }
    impl Record for String {
        const PREFIX: &'static str = "texts/";
    }

    #[test]
    fn kinds_are_apart_and_lists_are_ordered() {
        let mut records = Records::new(Box::new(Embedded::default()));
        for (name, number) in [("b", 2), ("a", 1), ("ab", 3)] {
            records.put(name, &number).unwrap();
        }
        records.put("a", &"text".to_owned()).unwrap();
        assert_eq!(records.list::<u32>("").unwrap(), [1, 3, 2]);
        assert_eq!(records.list::<u32>("a").unwrap(), [1, 3]);
        assert_eq!(records.get::<String>("a").unwrap().as_deref(), Some("text"));
        assert_eq!(records.get::<String>("b").unwrap(), None);
        records.remove::<u32>("a").unwrap();
        assert_eq!(records.get::<u32>("a").unwrap(), None);
    }
}
