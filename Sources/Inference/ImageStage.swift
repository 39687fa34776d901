import Scheduling
package import Step3Model

/// A view's features at their place in a prompt.
package struct PlacedFeatures: Sendable {
  /// The position of the first.
  package let position: Int
  /// The rows that take the places of the embeddings from there on.
  package let features: VisionFeatures

  /// Features from `position` on.
  package init(position: Int, features: VisionFeatures) {
    self.position = position
    self.features = features
  }
}

/// Requests whose images are still to be encoded, between the mailbox and the scheduler.
///
/// Distinct images are encoded in the order of their arrival, views of several requests together,
/// a piece per step: whoever decodes meanwhile waits for one piece at most. Features are kept by
/// content for whoever shows the same image again.
struct ImageStage {
  /// A request that waits for features.
  private struct Entry {
    let request: Int
    let images: [PlacedImage]
    var features: [[VisionFeatures]?]
  }

  /// An image that is being encoded.
  private struct Job {
    let image: PromptImage
    /// Views handed to the tower.
    var startedCount = 0
    var features: [VisionFeatures] = []
  }

  private var entries: [Entry] = []
  private var jobs: [[UInt64]: Job] = [:]
  /// The jobs by arrival.
  private var order: [[UInt64]] = []
  /// Whose views are in the tower, in their order.
  private var underway: [[UInt64]] = []
  private var cache: FeatureCache
  /// Images looked up among the kept ones, and those of them that were there or on their way.
  private(set) var queryCount = 0
  private(set) var hitCount = 0

  /// A stage that keeps up to `cacheByteCount` bytes of features.
  init(cacheByteCount: Int) { cache = FeatureCache(byteLimit: cacheByteCount) }

  /// Whether nobody waits.
  var isIdle: Bool { entries.isEmpty }
  /// Requests that wait.
  var requestCount: Int { entries.count }
  /// The requests that wait, in order.
  var requests: [Int] { entries.map(\.request) }

  /// Whether `request` waits here.
  func contains(_ request: Int) -> Bool { entries.contains { $0.request == request } }

  /// Takes a request in.
  mutating func add(_ request: Int, _ images: [PlacedImage]) {
    var entry = Entry(request: request, images: images, features: [])
    for placed in images {
      let digest = placed.image.digest
      let known = cache[digest]
      entry.features.append(known)
      queryCount += 1
      if known != nil || jobs[digest] != nil { hitCount += 1 }
      if known == nil, jobs[digest] == nil {
        jobs[digest] = Job(image: placed.image)
        order.append(digest)
      }
    }
    entries.append(entry)
  }

  /// Forgets a request; images that nobody else waits for are not begun.
  mutating func remove(_ request: Int) {
    entries.removeAll { $0.request == request }
    let wanted = Set(entries.flatMap { $0.images.map(\.image.digest) })
    for digest in order where !wanted.contains(digest) && !underway.contains(digest) {
      jobs[digest] = nil
    }
    order.removeAll { jobs[$0] == nil }
  }

  /// Encodes one piece, and gives the requests that are complete, with their features.
  mutating func advance<Executor: StepExecutor & ~Copyable>(
    _ executor: inout Executor
  ) -> [(request: Int, features: [PlacedFeatures])] {
    if underway.isEmpty {
      let views = nextViews(executor)
      if !views.isEmpty { executor.beginEncoding(views) }
    }
    if !underway.isEmpty, let features = executor.advanceEncoding() { take(features) }
    var ready: [(request: Int, features: [PlacedFeatures])] = []
    entries.removeAll { entry in
      guard let features = Self.placed(entry) else { return false }
      ready.append((entry.request, features))
      return true
    }
    return ready
  }

  /// The views of the next batch, those of the oldest images first.
  private mutating func nextViews<Executor: StepExecutor & ~Copyable>(
    _ executor: borrowing Executor
  ) -> [PixelView] {
    var views: [PixelView] = []
    var rows = 0
    for digest in order {
      while let job = jobs[digest], job.startedCount < job.image.viewCount {
        rows += executor.encodingRowCount(side: job.image.side(job.startedCount))
        if !views.isEmpty && rows > executor.encodingRowLimit { return views }
        views.append(job.image.view(job.startedCount))
        underway.append(digest)
        jobs[digest]?.startedCount += 1
      }
    }
    return views
  }

  private mutating func take(_ features: [VisionFeatures]) {
    for (digest, view) in zip(underway, features) { jobs[digest]?.features.append(view) }
    underway = []
    for digest in order {
      guard let job = jobs[digest], job.features.count == job.image.viewCount else { continue }
      jobs[digest] = nil
      cache.insert(job.features, digest)
      for entry in entries.indices {
        for image in entries[entry].images.indices
        where entries[entry].images[image].image.digest == digest {
          entries[entry].features[image] = job.features
        }
      }
    }
    order.removeAll { jobs[$0] == nil }
  }

  private static func placed(_ entry: Entry) -> [PlacedFeatures]? {
    var result: [PlacedFeatures] = []
    for (image, features) in zip(entry.images, entry.features) {
      guard let features else { return nil }
      for (position, view) in zip(image.viewPositions, features) {
        result.append(PlacedFeatures(position: position, features: view))
      }
    }
    return result
  }
}

/// Features by content, the least recently used given up first.
struct FeatureCache {
  private struct Kept {
    var features: [VisionFeatures]
    var byteCount: Int
    var lastUse: Int
  }

  private let byteLimit: Int
  private var kept: [[UInt64]: Kept] = [:]
  private(set) var byteCount = 0
  private var clock = 0

  init(byteLimit: Int) { self.byteLimit = byteLimit }

  /// The features of an image, nil when they are not kept.
  subscript(digest: [UInt64]) -> [VisionFeatures]? {
    mutating get {
      clock += 1
      kept[digest]?.lastUse = clock
      return kept[digest]?.features
    }
  }

  /// Keeps features, unless they alone exceed the limit.
  mutating func insert(_ features: [VisionFeatures], _ digest: [UInt64]) {
    let size = features.reduce(0) { $0 + $1.byteCount }
    guard size <= byteLimit, kept[digest] == nil else { return }
    clock += 1
    kept[digest] = Kept(features: features, byteCount: size, lastUse: clock)
    byteCount += size
    while byteCount > byteLimit, let oldest = kept.min(by: { $0.value.lastUse < $1.value.lastUse })
    {
      byteCount -= oldest.value.byteCount
      kept[oldest.key] = nil
    }
  }
}
