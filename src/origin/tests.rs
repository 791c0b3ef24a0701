//! Whose fault a failed read is, and how long a document that is being replaced is read again.

use std::sync::Condvar;
use std::sync::Mutex;

use super::*;
use crate::lock::lock;
use crate::origin::store::MemoryStore;
use crate::wire::Key;

/// A store whose reads of `hangs/…` end when it is released.
struct Hanging {
    documents: MemoryStore,
    released: Mutex<bool>,
    changed: Condvar,
}

impl Store for Hanging {
    fn read(&self, key: Key<'_>) -> Result<Document, StoreError> {
        if key.resource() == "hangs" {
            let _guard = self.changed.wait_while(lock(&self.released), |released| !*released);
        }
        self.documents.read(key)
    }
}

fn origin(read_deadline: Duration) -> Arc<Origin<Hanging>> {
    let documents = MemoryStore::new(1000);
    documents.put("article/1", "1");
    Origin::new(
        Hanging { documents, released: Mutex::new(false), changed: Condvar::new() },
        OriginConfig { read_deadline, ..OriginConfig::default() },
    )
}

async fn status(origin: &Arc<Origin<Hanging>>, key: &str) -> Status {
    origin.clone().get(Key::parse(key).unwrap().to_owned()).await.status
}

#[tokio::test]
async fn a_document_without_a_turn_or_with_a_read_that_does_not_end_is_overloaded_and_not_bad() {
    let origin = origin(Duration::from_millis(300));
    let hanging: Vec<_> = (0..READS)
        .map(|i| {
            let origin = origin.clone();
            tokio::spawn(async move { status(&origin, &format!("hangs/{i}")).await })
        })
        .collect();
    while origin.reads.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&origin, "article/1").await, Status::Overloaded);
    for read in hanging {
        assert_eq!(read.await.unwrap(), Status::Overloaded, "its own read hangs");
    }
    *lock(&origin.store.released) = true;
    origin.store.changed.notify_all();
    while origin.reads.available_permits() < READS {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&origin, "article/1").await, Status::Ok);
    assert_eq!((origin.overloaded.get(), origin.failed.get()), (1 + READS as u64, 0));
}

/// A store in which a document appears at the n-th read, and until then is being replaced.
struct Late(Counter, u64);

impl Store for Late {
    fn read(&self, _: Key<'_>) -> Result<Document, StoreError> {
        self.0.add_one();
        match self.0.get() >= self.1 {
            true => Document::parse(b"1", 10).map_err(|error| StoreError::Unfit(error.to_string())),
            false => Err(StoreError::Settling(Box::new(StoreError::Missing))),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_being_replaced_is_read_again_for_half_of_the_deadline() {
    let began = Instant::now();
    let key = || Key::parse("article/1").unwrap().to_owned();
    let late = Origin::new(
        Late(Counter::default(), 4),
        OriginConfig { read_deadline: Duration::from_secs(1), ..OriginConfig::default() },
    );
    assert_eq!(late.clone().get(key()).await.status, Status::Ok);
    let never = Origin::new(
        Late(Counter::default(), u64::MAX),
        OriginConfig { read_deadline: Duration::from_secs(1), ..OriginConfig::default() },
    );
    assert_eq!(never.clone().get(key()).await.status, Status::NotFound);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(never.store.0.get() < 40, "{} reads", never.store.0.get());
}
