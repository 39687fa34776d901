#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The name, type and shape of a tensor that will be written.
package struct TensorDeclaration: Sendable, Equatable {
  /// The name in the checkpoint.
  package let name: String
  /// The element type on disk.
  package let elementType: ElementType
  /// Row-major dimensions, outermost first.
  package let shape: [Int]

  /// A declaration; traps on a negative dimension.
  package init(name: String, elementType: ElementType, shape: [Int]) {
    precondition(shape.allSatisfy { $0 >= 0 }, "\(name): negative dimension in \(shape)")
    self.name = name
    self.elementType = elementType
    self.shape = shape
  }

  /// Bytes that the tensor takes in the file.
  package var byteCount: Int { shape.reduce(elementType.byteWidth, *) }
}

/// Why a checkpoint could not be written.
package enum SafetensorsWriterError: Error, Equatable, Sendable {
  case duplicateTensor(name: String)
  case cannotCreate(path: String, errno: Int32)
  case cannotWrite(path: String, offset: Int, errno: Int32)
  case cannotRename(path: String, errno: Int32)
}

extension SafetensorsWriterError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .duplicateTensor(let name):
      "the tensor \(name) is declared twice"
    case .cannotCreate(let path, let code):
      "\(path): cannot be created (\(Self.reason(code))); check the folder and its permissions"
    case .cannotWrite(let path, let offset, let code):
      "\(path): writing stopped at byte \(offset) (\(Self.reason(code))); check the free space"
    case .cannotRename(let path, let code):
      "\(path): the finished file cannot be put in place (\(Self.reason(code)))"
    }
  }

  private static func reason(_ code: Int32) -> String {
    unsafe String(cString: strerror(code))
  }
}

/// Writes a safetensors checkpoint as a stream: declare every tensor, then append its bytes.
///
/// Headers are known from the declarations, so nothing is held but one write buffer. Tensors are
/// appended in the declared order, each completely. Every file is written under a `.partial` name
/// and renamed by `finish`, the index last: a checkpoint without an index or a single file
/// `model.safetensors` was never finished. Tensor data start at a multiple of 64 bytes (the header
/// is padded with spaces), so that a mapping can be used in place.
@safe
package struct SafetensorsWriter: ~Copyable {
  private struct Shard {
    var name: String
    var tensors: [TensorDeclaration]
    var byteCount: Int { tensors.reduce(0) { $0 + $1.byteCount } }
  }

  /// Total bytes of tensor data.
  package let totalByteCount: Int
  private let directory: String
  private let shards: [Shard]
  private let metadata: [(key: String, value: String)]
  private var shardIndex = 0
  private var tensorIndex = 0
  private var writtenOfTensor = 0
  private var offset = 0
  private var descriptor: Int32 = -1
  private var pending: [UInt8] = []
  private static let bufferByteCount = 4 << 20

  /// Plans the files in `directory`, which must exist; a new shard starts before the tensor that
  /// would make the current one larger than `maximumShardByteCount`.
  package init(
    directory: String, tensors: [TensorDeclaration], maximumShardByteCount: Int = 5_000_000_000,
    singleFileName: String = "model.safetensors",
    metadata: [(key: String, value: String)] = [("format", "pt")]
  ) throws(SafetensorsWriterError) {
    precondition(maximumShardByteCount > 0)
    var seen = Set<String>()
    for tensor in tensors where !seen.insert(tensor.name).inserted {
      throw .duplicateTensor(name: tensor.name)
    }
    var groups: [[TensorDeclaration]] = [[]]
    var size = 0
    for tensor in tensors {
      if size > 0, size + tensor.byteCount > maximumShardByteCount {
        groups.append([])
        size = 0
      }
      groups[groups.count - 1].append(tensor)
      size += tensor.byteCount
    }
    shards = groups.enumerated().map { index, tensors in
      Shard(
        name: groups.count == 1 ? singleFileName : Self.fileName(index, of: groups.count),
        tensors: tensors)
    }
    self.directory = directory
    self.metadata = metadata
    totalByteCount = shards.reduce(0) { $0 + $1.byteCount }
    pending.reserveCapacity(Self.bufferByteCount)
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  /// Appends bytes to the tensor `name`, which must be the first declared one not yet complete.
  package mutating func append(_ bytes: [UInt8], to name: String) throws(SafetensorsWriterError) {
    let tensor = try current(name)
    precondition(
      writtenOfTensor + bytes.count <= tensor.byteCount,
      "\(name): more than its \(tensor.byteCount) bytes")
    if pending.count + bytes.count > Self.bufferByteCount { try flush() }
    if bytes.count >= Self.bufferByteCount {
      try write(bytes)
    } else {
      pending.append(contentsOf: bytes)
    }
    try advance(by: bytes.count, of: tensor)
  }

  /// Appends a mapped region to the tensor `name`, straight from its pages.
  package mutating func append(
    _ region: ByteRegion, to name: String
  ) throws(SafetensorsWriterError) {
    let tensor = try current(name)
    precondition(
      writtenOfTensor + region.byteCount <= tensor.byteCount,
      "\(name): more than its \(tensor.byteCount) bytes")
    try flush()
    try unsafe write(region.base, count: region.byteCount)
    try advance(by: region.byteCount, of: tensor)
  }

  /// Completes the checkpoint: renames every file to its final name and writes the index.
  ///
  /// Returns the names of the files, in order, the index included. Traps when a tensor is
  /// incomplete.
  package consuming func finish() throws(SafetensorsWriterError) -> [String] {
    while shardIndex < shards.count {
      // Only shards without any byte to come can be left: open and close them.
      precondition(
        shards[shardIndex].tensors.dropFirst(tensorIndex).allSatisfy { $0.byteCount == 0 },
        "the tensors after \(tensorIndex) of \(shards[shardIndex].name) were not written")
      if descriptor < 0 { try openShard() }
      try closeShard()
    }
    var names: [String] = []
    for shard in shards {
      try rename(shard.name)
      names.append(shard.name)
    }
    if shards.count > 1 {
      let name = "model.safetensors.index.json"
      try create(name)
      pending = Array(indexText().utf8)
      try flush()
      try closeFile(name)
      try rename(name)
      names.append(name)
    }
    return names
  }

  // MARK: One tensor after another

  private mutating func current(_ name: String) throws(SafetensorsWriterError)
    -> TensorDeclaration
  {
    precondition(shardIndex < shards.count, "\(name): every declared tensor is complete")
    if descriptor < 0 { try openShard() }
    while shards[shardIndex].tensors[tensorIndex].byteCount == 0,
      shards[shardIndex].tensors[tensorIndex].name != name
    {
      try advance(by: 0, of: shards[shardIndex].tensors[tensorIndex])
      if descriptor < 0 { try openShard() }
    }
    let tensor = shards[shardIndex].tensors[tensorIndex]
    precondition(tensor.name == name, "expected bytes of \(tensor.name), found \(name)")
    return tensor
  }

  private mutating func advance(
    by byteCount: Int, of tensor: TensorDeclaration
  ) throws(SafetensorsWriterError) {
    writtenOfTensor += byteCount
    guard writtenOfTensor == tensor.byteCount else { return }
    writtenOfTensor = 0
    tensorIndex += 1
    if tensorIndex == shards[shardIndex].tensors.count { try closeShard() }
  }

  // MARK: Files

  private static func fileName(_ index: Int, of count: Int) -> String {
    guard count > 1 else { return "model.safetensors" }
    return "model-\(padded(index + 1))-of-\(padded(count)).safetensors"
  }

  private static func padded(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
  }

  private func path(_ name: String) -> String { directory + "/" + name }

  private mutating func create(_ name: String) throws(SafetensorsWriterError) {
    let partial = path(name) + ".partial"
    descriptor = unsafe open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw .cannotCreate(path: partial, errno: errno) }
    offset = 0
  }

  private mutating func openShard() throws(SafetensorsWriterError) {
    try create(shards[shardIndex].name)
    pending.append(contentsOf: header(of: shards[shardIndex]))
    tensorIndex = 0
  }

  private mutating func closeShard() throws(SafetensorsWriterError) {
    try flush()
    try closeFile(shards[shardIndex].name)
    shardIndex += 1
    tensorIndex = 0
  }

  /// Makes the file durable before its rename, so that a crash cannot leave a hollow one.
  private mutating func closeFile(_ name: String) throws(SafetensorsWriterError) {
    guard fsync(descriptor) == 0 else {
      throw .cannotWrite(path: path(name), offset: offset, errno: errno)
    }
    close(descriptor)
    descriptor = -1
  }

  private func rename(_ name: String) throws(SafetensorsWriterError) {
    let final = path(name)
    guard Self.move(final + ".partial", final) == 0 else {
      throw .cannotRename(path: final, errno: errno)
    }
  }

  private static func move(_ old: String, _ new: String) -> Int32 {
    #if canImport(Glibc)
      unsafe Glibc.rename(old, new)
    #else
      unsafe Darwin.rename(old, new)
    #endif
  }

  private mutating func flush() throws(SafetensorsWriterError) {
    guard !pending.isEmpty else { return }
    var bytes: [UInt8] = []
    swap(&bytes, &pending)
    try write(bytes)
    bytes.removeAll(keepingCapacity: true)
    swap(&bytes, &pending)
  }

  private mutating func write(_ bytes: [UInt8]) throws(SafetensorsWriterError) {
    let failure = unsafe bytes.withUnsafeBytes { buffer -> SafetensorsWriterError? in
      guard let base = buffer.baseAddress else { return nil }
      do throws(SafetensorsWriterError) {
        try unsafe write(base, count: buffer.count)
        return nil
      } catch {
        return error
      }
    }
    if let failure { throw failure }
  }

  private mutating func write(
    _ base: UnsafeRawPointer, count: Int
  ) throws(SafetensorsWriterError) {
    var done = 0
    while done < count {
      #if canImport(Glibc)
        let written = unsafe Glibc.write(descriptor, base + done, count - done)
      #else
        let written = unsafe Darwin.write(descriptor, base + done, count - done)
      #endif
      if written < 0 {
        if errno == EINTR { continue }
        throw .cannotWrite(
          path: path(shards[min(shardIndex, shards.count - 1)].name), offset: offset, errno: errno)
      }
      done += written
      offset += written
    }
  }

  // MARK: Text

  private func header(of shard: Shard) -> [UInt8] {
    var entries: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.map { "\(Self.quoted($0.key)):\(Self.quoted($0.value))" }
      entries.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    var start = 0
    for tensor in shard.tensors {
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      let end = start + tensor.byteCount
      entries.append(
        "\(Self.quoted(tensor.name)):{\"dtype\":\"\(tensor.elementType.rawValue)\","
          + "\"shape\":[\(shape)],\"data_offsets\":[\(start),\(end)]}")
      start = end
    }
    var text = Array("{\(entries.joined(separator: ","))}".utf8)
    while (8 + text.count) % 64 != 0 { text.append(UInt8(ascii: " ")) }
    let length = UInt64(text.count)
    return (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + text
  }

  private func indexText() -> String {
    var lines: [String] = []
    for shard in shards {
      for tensor in shard.tensors {
        lines.append("    \(Self.quoted(tensor.name)): \(Self.quoted(shard.name))")
      }
    }
    return "{\n  \"metadata\": {\"total_size\": \(totalByteCount)},\n  \"weight_map\": {\n"
      + lines.sorted().joined(separator: ",\n") + "\n  }\n}\n"
  }

  private static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }
}
