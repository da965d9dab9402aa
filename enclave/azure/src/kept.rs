//! What was had from a vault or an attestation service, kept while the rest of a batch needs it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// A value, and since when; none while it is being made.
type Place<T> = Arc<Mutex<Option<(Instant, Arc<T>)>>>;

/// Values by id, each for a time.
pub(crate) struct Kept<T> {
    places: Mutex<HashMap<String, Place<T>>>,
    age: Duration,
}

impl<T> Kept<T> {
    /// Nothing yet; what comes is good for `age`.
    pub(crate) fn for_at_most(age: Duration) -> Self {
        Self {
            places: Mutex::default(),
            age,
        }
    }

    /// The value of this id, from `make` where there is none that is good. Whoever comes second waits for the first one's
    /// instead of making another, and nobody waits for the making of another id's.
    pub(crate) async fn get<E>(
        &self,
        id: String,
        make: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let place = self.place(id).await;
        let mut kept = place.lock().await;
        if let Some((since, value)) = kept.as_ref()
            && since.elapsed() < self.age
        {
            return Ok(Arc::clone(value));
        }
        *kept = None;
        let value = Arc::new(make.await?);
        *kept = Some((Instant::now(), Arc::clone(&value)));
        Ok(value)
    }

    /// Has the value of this id made anew the next time.
    pub(crate) async fn forget(&self, id: &str) {
        self.places.lock().await.remove(id);
    }

    /// The place of this id; others whose value is too old, and nobody's concern, are dropped.
    async fn place(&self, id: String) -> Place<T> {
        let mut places = self.places.lock().await;
        places.retain(|_, place| {
            let good = |(since, _): &(Instant, _)| since.elapsed() < self.age;
            let there = place.try_lock().map(|kept| kept.as_ref().is_some_and(good));
            Arc::strong_count(place) > 1 || there.unwrap_or(true)
        });
        Arc::clone(places.entry(id).or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;
    use std::future::{pending, ready};

    use super::*;

    fn made(value: u32) -> impl Future<Output = Result<u32, Infallible>> {
        ready(Ok(value))
    }

    #[tokio::test]
    async fn a_value_is_made_once_as_long_as_it_is_good() {
        let kept = Kept::for_at_most(Duration::from_secs(3600));
        assert_eq!(*kept.get("a".to_owned(), made(1)).await.unwrap(), 1);
        assert_eq!(*kept.get("a".to_owned(), made(2)).await.unwrap(), 1);
        assert_eq!(*kept.get("b".to_owned(), made(3)).await.unwrap(), 3);
        kept.forget("a").await;
        assert_eq!(*kept.get("a".to_owned(), made(4)).await.unwrap(), 4);
        let brief = Kept::for_at_most(Duration::ZERO);
        assert_eq!(*brief.get("a".to_owned(), made(1)).await.unwrap(), 1);
        assert_eq!(*brief.get("b".to_owned(), made(2)).await.unwrap(), 2);
        assert_eq!(*brief.get("a".to_owned(), made(3)).await.unwrap(), 3);
        assert_eq!(brief.places.lock().await.len(), 1);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept_and_one_that_takes_long_holds_up_its_own_id_only() {
        let kept = Arc::new(Kept::for_at_most(Duration::from_secs(3600)));
        let failed = kept.get("a".to_owned(), ready(Err::<u32, _>("no")));
        assert_eq!(failed.await.unwrap_err(), "no");
        assert_eq!(*kept.get("a".to_owned(), made(1)).await.unwrap(), 1);
        let stuck = kept.clone();
        let stuck = tokio::spawn(async move {
            let never = stuck.get("b".to_owned(), pending::<Result<u32, Infallible>>());
            never.await.map(drop)
        });
        tokio::task::yield_now().await;
        assert_eq!(*kept.get("c".to_owned(), made(2)).await.unwrap(), 2);
        stuck.abort();
        let _ = stuck.await;
        assert_eq!(*kept.get("b".to_owned(), made(3)).await.unwrap(), 3);
    }
}
