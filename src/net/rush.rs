//! Many connections that wait for the same moment: the answers leave first, and are followed by the closings.
//!
//! A thousand askers of one document that was not there are answered in a few milliseconds, of which closing their
//! connections takes half. Where it comes after the answers the last of the thousand is answered sooner; who waits for the
//! end of the stream as well has it a few milliseconds later.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// With fewer than so many others it is no rush.
const MANY: usize = 128;
/// Nobody is being answered any more if nobody was for so long.
const CALM: Duration = Duration::from_millis(2);
/// No closing is put off for longer: where answers never cease, the askers who wait for the end get it. With 6 ms the
/// closings of a thousand began among the answers, and nothing was won.
const LONGEST: Duration = Duration::from_millis(20);

/// The plain connections of a server that wait for their answer.
#[derive(Default)]
pub(super) struct Rush {
    waiting: AtomicUsize,
    /// How many have got it.
    answered: AtomicUsize,
    /// Whether one of those who wait for the calm watches for it.
    is_watched: AtomicBool,
    calm: Notify,
}

/// One connection that waits.
pub(super) struct Waiting<'a>(&'a Rush);

impl Rush {
    /// One more waits.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Returns when nobody was answered for a moment.
    pub(super) async fn is_over(&self) {
        // It hears what is said from now on: nothing is missed before it is awaited.
        let calm = self.calm.notified();
        if self.is_watched.swap(true, Ordering::AcqRel) {
            return calm.await;
        }
        let _watch = Watch(self);
        let last = Instant::now() + LONGEST;
        loop {
            let before = self.answered.load(Ordering::Relaxed);
            sleep(CALM).await;
            if self.answered.load(Ordering::Relaxed) == before || Instant::now() >= last {
                return;
            }
        }
    }
}

/// One watches for all: they go on when it has seen the calm, and also when it is dropped before that.
struct Watch<'a>(&'a Rush);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.is_watched.store(false, Ordering::Release);
        self.0.calm.notify_waiters();
    }
}

impl Waiting<'_> {
    /// It is answered now; tells whether many others are not.
    pub(super) fn end_among_many(self) -> bool {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
        self.0.waiting.load(Ordering::Relaxed) > MANY
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Semaphore;
    use tokio::task::yield_now;
    use tokio::time::{pause, resume};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::handler::{Answer, Ask, Handler};
    use crate::net::{Server, ServerLimits};
    use crate::stats::Counter;
    use crate::wire::{Reply, Status};

    #[test]
    fn who_is_answered_while_many_wait_end_among_many() {
        let rush = Rush::default();
        let waiting: Vec<Waiting<'_>> = (0..=MANY).map(|_| rush.wait()).collect();
        let told: Vec<bool> = waiting.into_iter().map(Waiting::end_among_many).collect();
        assert_eq!(told.iter().filter(|one_of_many| **one_of_many).count(), 1);
        assert!(told[0], "the last of them are few");
        assert_eq!(rush.waiting.into_inner(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_for_all_when_nobody_is_answered_any_more() {
        let rush = Arc::new(Rush::default());
        let over: Vec<_> = (0..3)
            .map(|_| {
                let rush = rush.clone();
                tokio::spawn(async move { rush.is_over().await })
            })
            .collect();
        for _ in 0..5 {
            rush.wait().end_among_many();
            sleep(CALM / 2).await;
            assert!(over.iter().all(|over| !over.is_finished()), "some are being answered");
        }
        let answered = Instant::now();
        for over in over {
            over.await.unwrap();
        }
        assert!(answered.elapsed() <= 2 * CALM);
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_may_be_cut_and_the_others_wait_for_nobody() {
        let rush = Arc::new(Rush::default());
        let [first, second] = [(); 2].map(|()| {
            let rush = rush.clone();
            tokio::spawn(async move { rush.is_over().await })
        });
        yield_now().await;
        first.abort();
        let began = Instant::now();
        second.await.unwrap();
        assert!(began.elapsed() < CALM, "it was told");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_never_cease_put_no_closing_off_for_long() {
        let (rush, began) = (Arc::new(Rush::default()), Instant::now());
        let answering = async {
            loop {
                rush.wait().end_among_many();
                sleep(CALM / 2).await;
            }
        };
        tokio::select! {
            () = answering => {}
            () = rush.is_over() => {}
        }
        assert!(began.elapsed() <= LONGEST + 2 * CALM);
    }

    /// Answers everybody when it is told to.
    struct Together {
        asked: Counter,
        may: Semaphore,
    }

    impl Handler for Together {
        fn answer(self: &Arc<Self>, _: Ask<'_>) -> Answer {
            self.asked.add_one();
            let this = self.clone();
            Answer::later(async move {
                this.may.acquire().await.unwrap().forget();
                Reply::text(Status::NotFound, "nothing")
            })
        }
    }

    /// Reads what is there; tells whether the end of the line is.
    fn has_line(stream: &TcpStream) -> bool {
        let mut buffer = [0; 256];
        stream.try_read(&mut buffer).is_ok_and(|n| buffer[..n].ends_with(b"\n"))
    }

    #[tokio::test]
    async fn all_have_their_answer_before_the_first_is_closed() {
        const ASKERS: usize = 3 * MANY;
        let handler = Arc::new(Together { asked: Counter::default(), may: Semaphore::new(0) });
        let server = Server::new(handler.clone(), ServerLimits::default(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { server.serve(listener).await });
        let mut askers = Vec::new();
        for asked in 1..=ASKERS {
            let mut asker = TcpStream::connect(address).await.unwrap();
            asker.write_all(b"GET a/1\n").await.unwrap();
            askers.push(asker);
            while handler.asked.get() < asked as u64 {
                yield_now().await;
            }
        }
        // The moment lasts for as long as somebody has something to do.
        pause();
        handler.may.add_permits(ASKERS);
        let mut have = vec![false; ASKERS];
        while have.contains(&false) {
            for (have, asker) in have.iter_mut().zip(&askers) {
                *have |= has_line(asker);
            }
            yield_now().await;
        }
        let is_open = |asker: &TcpStream| asker.try_read(&mut [0; 1]).is_err();
        assert!(askers[..ASKERS - MANY].iter().all(is_open), "of those who were among many");
        resume();
        for mut asker in askers {
            assert_eq!(asker.read(&mut [0; 1]).await.unwrap(), 0, "in the end all are closed");
        }
    }
}
