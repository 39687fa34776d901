import Tensors
import CKernels

/// Kernels and the threads that run them: what a model calls.
///
/// Every operation takes whole buffers, and row counts and offsets where they are not all of it.
/// Results are the same bits for any number of threads and any grouping of rows. An operation
/// uses the whole team; call from one thread at a time.
package struct Compute: Sendable {
  /// The arithmetic.
  package let kernels: KernelSet
  /// The threads.
  package let team: WorkTeam
  let scratch: Scratch
  /// Where the inputs of matrix products are recorded; nil outside of calibration.
  package var recorder: InputRecorder?

  /// Bundles kernels with a team.
  package init(kernels: KernelSet, team: WorkTeam) {
    self.kernels = kernels
    self.team = team
    scratch = Scratch(workerCount: team.workerCount)
  }

  /// Kernels with a team of `threadCount` threads; nil takes every usable core.
  package init(kernels: KernelSet, threadCount: Int? = nil) {
    self.init(kernels: kernels, team: WorkTeam(workerCount: threadCount))
  }

  /// Runs `body(range, worker)` over ranges of `grain` items that cover `0..<count`.
  func forEachRange(_ count: Int, grain: Int, _ body: (Range<Int>, Int) -> Void) {
    let size = max(1, grain)
    team.run(chunkCount: (count + size - 1) / size) { chunk, worker in
      body(chunk * size..<min(count, (chunk + 1) * size), worker)
    }
  }
}

/// Memory that kernels use within a call: a piece per worker, and one that all share.
@safe
final class Scratch: @unchecked Sendable {
  // Unchecked: memory is grown by the owner between jobs; during a job each worker writes its own
  // piece and its own parts of the shared one.
  private let pieces: [Piece]
  private let sharedPiece = Piece()
  /// Attention's list of work, kept so that its memory is used again.
  var attentionUnits: [AttentionUnit] = []

  init(workerCount: Int) {
    pieces = (0..<workerCount).map { _ in Piece() }
    reserve(perWorker: Int(CK_LINEAR_SCRATCH), shared: 0)
  }

  /// Makes sure that there are as many bytes; earlier contents may be lost.
  func reserve(perWorker: Int, shared: Int) {
    for piece in pieces { piece.reserve(perWorker) }
    sharedPiece.reserve(shared)
  }

  /// The memory of one worker.
  func piece(of worker: Int) -> UnsafeMutableRawPointer { unsafe pieces[worker].base }

  /// The memory that all workers share.
  var shared: UnsafeMutableRawPointer { unsafe sharedPiece.base }

  private final class Piece {
    private var region = ByteRegion(allocating: 64)

    // The region's memory is its own heap block, which nothing else refers to.
    var base: UnsafeMutableRawPointer {
      unsafe UnsafeMutableRawPointer(mutating: region.base)
    }

    func reserve(_ byteCount: Int) {
      if byteCount > region.byteCount {
        region = ByteRegion(allocating: max(byteCount, 2 * region.byteCount))
      }
    }
  }
}
