import CKernels

/// The instruction sets that kernels are written for; each has its own bits.
package enum KernelChoice: String, Sendable, CaseIterable {
  /// The best that this CPU has.
  case auto
  case avx512
  /// The same with multiply-adds where `avx512` has BF16 dot products, for CPUs that do these
  /// slowly or not at all.
  case avx512FMA = "avx512-fma"
  case avx2
  case neon
  case reference
}

/// Why kernels could not be chosen.
package enum KernelError: Error, Equatable, Sendable {
  case unavailable(choice: KernelChoice, missing: String)
}

extension KernelError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .unavailable(let choice, let missing):
      "kernels \"\(choice.rawValue)\" cannot run here: this CPU lacks \(missing); "
        + "available are \(KernelSet.available.map(\.name).joined(separator: ", "))"
    }
  }
}

/// How many bits of the activations take part in matrix products.
package enum ActivationType: String, Sendable, CaseIterable {
  /// Activations are rounded to BF16 before each product.
  case bfloat16
  /// Activations keep Float32; BF16 dot products take them as a pair of BF16 (16 bits of mantissa).
  case float32
  /// Activations of INT8 and INT4 weights are rounded to a grid of 255 steps for every 128
  /// columns: half the work, for less accuracy. Other weights see BF16.
  case int8

  var code: Int32 {
    switch self {
    case .bfloat16: CK_ACTIVATION_BFLOAT16
    case .float32: CK_ACTIVATION_FLOAT32
    case .int8: CK_ACTIVATION_INT8
    }
  }
}

/// One table of kernels, chosen once at start-up and passed down as a value.
@safe
package struct KernelSet: Sendable {
  // Points at a constant of the C library, which never changes or goes away.
  nonisolated(unsafe) let table: UnsafePointer<ck_kernels>
  /// The name of the set: "avx512", "avx512-fma", "avx2", "neon" or "reference".
  package let name: String
  /// The formats of weights that activations are prepared for, all unless narrowed.
  package private(set) var formats = WeightMatrix.FormatSet.all

  /// The same set for a model whose matrices have these formats only.
  package func limited(to formats: WeightMatrix.FormatSet) -> KernelSet {
    var copy = self
    copy.formats = formats
    return copy
  }

  private init(table: UnsafePointer<ck_kernels>) {
    unsafe self.table = table
    unsafe self.name = String(cString: table.pointee.name)
  }

  /// The chosen set; throws when this CPU lacks what it needs.
  package static func select(_ choice: KernelChoice = .auto) throws(KernelError) -> KernelSet {
    let found =
      choice == .auto
      ? unsafe ck_select(nil) : unsafe choice.rawValue.withCString { unsafe ck_select($0) }
    if let table = unsafe found { return unsafe KernelSet(table: table) }
    let missing = unsafe choice.rawValue.withCString { name in
      unsafe ck_missing(name).map { unsafe String(cString: $0) }
    }
    throw .unavailable(choice: choice, missing: missing ?? "this instruction set")
  }

  /// The sets that this CPU can run, best first.
  package static var available: [KernelSet] {
    var sets: [KernelSet] = []
    // `auto` comes first.
    for case let set? in KernelChoice.allCases.map({ try? select($0) }) where !sets.contains(set) {
      sets.append(set)
    }
    return sets
  }
}

extension KernelSet: Equatable {
  package static func == (left: KernelSet, right: KernelSet) -> Bool {
    unsafe left.table == right.table
  }
}
