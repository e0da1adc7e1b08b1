//! A list whose free places are used again.

/// Things by their places, which stay theirs until they are removed.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.places.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.places.get_mut(id as usize)?.as_mut()
    }

    /// Where the next one will be.
    pub(super) fn next(&self) -> u32 {
        let last = self.free.last().copied();
        last.unwrap_or_else(|| {
            u32::try_from(self.places.len()).expect("the limit on series is far below 2^32")
        })
    }

    pub(super) fn insert(&mut self, item: T) -> u32 {
        let id = self.next();
        if self.free.pop().is_some() {
            self.places[id as usize] = Some(item);
        } else {
            self.places.push(Some(item));
        }
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let gone = self.places.get_mut(id as usize)?.take();
        if gone.is_some() {
            self.free.push(id);
        }
        gone
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }
}
