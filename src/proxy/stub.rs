//! temporary
use super::cache::*;
use std::sync::{Arc, Mutex};
#[allow(missing_docs)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheType {
    Ttl,
    Lru,
    S3fifo,
}
impl std::str::FromStr for CacheType {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "ttl" => Ok(Self::Ttl),
            "lru" => Ok(Self::Lru),
            "s3fifo" => Ok(Self::S3fifo),
            _ => Err("a cache type is one of ttl, lru, s3fifo".into()),
        }
    }
}
struct C(Mutex<std::collections::HashMap<String, Arc<Entry>>>);
impl Cache for C {
    fn get(&self, k: &str) -> Option<Arc<Entry>> {
        self.0.lock().unwrap().get(k).cloned()
    }
    fn peek(&self, k: &str) -> Option<Arc<Entry>> {
        self.0.lock().unwrap().get(k).cloned()
    }
    fn insert(&self, e: Arc<Entry>) -> bool {
        self.0.lock().unwrap().insert(e.key().to_owned(), e);
        true
    }
    fn remove(&self, k: &str) -> Option<Arc<Entry>> {
        self.0.lock().unwrap().remove(k)
    }
    fn slices(&self) -> usize {
        1
    }
    fn retain(&self, _: usize, keep: &mut dyn FnMut(&Entry) -> bool) -> usize {
        let mut m = self.0.lock().unwrap();
        let n = m.len();
        m.retain(|_, e| keep(e));
        n - m.len()
    }
    fn usage(&self) -> Usage {
        Usage::default()
    }
}
#[allow(missing_docs)]
pub fn build(_: CacheType, _: Bounds) -> Box<dyn Cache> {
    Box::new(C(Default::default()))
}
