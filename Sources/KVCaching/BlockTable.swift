/// The blocks that hold one sequence's keys and values, in order of position.
///
/// Position p lives in block `blocks[p / blockSize]` at offset p % blockSize. A table is changed by
/// `BlockPool` only, which counts the owners.
package struct BlockTable: Equatable, Sendable {
  /// Block numbers; shared with other tables where the tokens are the same.
  package internal(set) var blocks: [Int32] = []
  /// How many blocks at the front are full and known to the prefix cache.
  package internal(set) var committedCount = 0
  /// The prefix cache's name for the last committed block.
  var lastCommitted = PrefixCache.root

  /// A table without blocks.
  package init() {}
}

/// Copies the content of a shared block so that one of its owners may write.
package struct BlockCopy: Equatable, Sendable {
  /// The block that is read.
  package let source: Int32
  /// The block that is written.
  package let target: Int32

  /// `target` gets what `source` holds, in every layer.
  package init(source: Int32, target: Int32) {
    self.source = source
    self.target = target
  }
}
