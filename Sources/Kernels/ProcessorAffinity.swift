import CKernels

/// On which processors this process runs.
package enum ProcessorAffinity {
  /// Lets the process run on these processors alone; the machine's others are left to others.
  package static func restrict(to cores: [Int]) {
    let numbers = cores.map { Int32(clamping: $0) }
    unsafe ck_restrict_process(numbers, Int32(numbers.count))
  }

  /// Lets the calling thread run on one processor alone.
  package static func pinThread(to core: Int) { ck_pin_thread(Int32(clamping: core)) }

  /// The processors that the process may run on.
  package static var usableCores: [Int] {
    var cores = [Int32](repeating: 0, count: 1024)
    let count = unsafe ck_usable_cores(&cores, 1024)
    return cores.prefix(Int(max(0, count))).map(Int.init)
  }
}
