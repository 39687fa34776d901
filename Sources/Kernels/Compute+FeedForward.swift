import CKernels
package import Tensors

/// Scratch of the feed-forward half: who goes where, prepared inputs and products.
@safe
package struct FeedForwardScratch: ~Copyable, Sendable {
  /// Who computes what; to be filled in before each layer.
  package var plan = ExpertPlan()
  fileprivate var input: LinearInput
  fileprivate var product: LinearInput
  fileprivate var runs: [RunTask] = []
  fileprivate var jobs: [Job] = []

  /// Scratch for `tokenLimit` tokens in layers of one expert of `denseWidth`, or of a shared one
  /// and `expertsPerToken` routed ones for each token, the widest `expertWidth` wide.
  package init(
    kernels: KernelSet, activation: ActivationType, tokenLimit: Int, hiddenSize: Int,
    denseWidth: Int, expertWidth: Int, expertsPerToken: Int,
    formats: WeightMatrix.FormatSet = .all
  ) {
    let slotLimit = tokenLimit * (expertsPerToken + 1)
    input = LinearInput(
      kernels: kernels, activation: activation, maxTokens: slotLimit, maxColumns: hiddenSize,
      formats: formats)
    product = LinearInput(
      kernels: kernels, activation: activation,
      shapes: [(tokenLimit, denseWidth), (slotLimit, expertWidth)], formats: formats)
  }
}

/// One expert's tokens and matrices, as the kernels want them.
@safe
private struct RunTask: @unchecked Sendable {
  // Unchecked: the addresses are those of weights and scratch that outlive the job.
  var gate: ck_linear
  var up: ck_linear
  var down: ck_linear
  let gateKernel: ck_linear_fn
  let upKernel: ck_linear_fn
  let downKernel: ck_linear_fn
  let width: Int
  let firstSlot: Int
  let count: Int
}

/// Rows [row0, row1) of a run's gate and up matrices for some of its tokens.
private struct Job: Sendable {
  var run: Int
  var rows: Range<Int>
  var tokens: Range<Int>
}

extension Compute {
  /// Computes the experts of `scratch.plan` and adds up their results in one order:
  ///
  ///     output = Σₛ ( sharedₛ + Σₑ weightₑ · downₛ(silu(gate(x)) · up(x)) )
  ///
  /// over the `sliceCount` equal slices s of the intermediate columns. Both sums are binary trees,
  /// over slices and over the range of expert indices, so that whoever holds a subtree computes
  /// its exact share. With `keepsSlices` the outer sum is left out. `experts` are those that the
  /// plan holds.
  ///
  /// - Shape: `x` [T, D] → `output` [T, D], or with `keepsSlices` [sliceCount, T, D].
  /// - Precision: activations as the scratch's type says, Float32 sums.
  package func feedForward(
    shared: SwiGLU?, experts: [SwiGLU], sliceCount: Int, keepsSlices: Bool = false,
    _ x: borrowing Buffer<Float>, scratch: inout FeedForwardScratch,
    into output: inout Buffer<Float>
  ) {
    guard let first = shared ?? experts.first else { preconditionFailure("no expert is held") }
    let (tokens, hidden) = (scratch.plan.tokenCount, first.downProjection.rows)
    let planes = keepsSlices ? sliceCount : 1
    precondition(
      tokens * hidden <= x.count && planes * tokens * hidden <= output.count
        && first.gateProjection.columns == hidden, "rows outside the buffer")
    if tokens == 0 { return }
    if scratch.plan.runs.isEmpty {
      unsafe output.withUnsafeMutablePointer { y in
        unsafe y.update(repeating: 0, count: planes * tokens * hidden)
      }
      return
    }
    prepareInput(x, hidden, shared, experts, &scratch)
    if let recorder { record(x, hidden, shared, experts, scratch.plan, recorder) }
    makeTasks(shared, experts, sliceCount, &scratch)
    gateAndUp(&scratch)
    downAndCombine(
      &scratch, sliceCount, hidden, planeStride: keepsSlices ? tokens * hidden : 0, into: &output)
  }

  /// Prepares every token once, and copies rows so that an expert's tokens follow each other.
  private func prepareInput(
    _ x: borrowing Buffer<Float>, _ hidden: Int, _ shared: SwiGLU?, _ experts: [SwiGLU],
    _ scratch: inout FeedForwardScratch
  ) {
    var formats: WeightMatrix.FormatSet = []
    for run in scratch.plan.runs {
      formats.formUnion(scratch.plan.weights(of: run, shared, experts).inputFormats)
    }
    let (tokens, copies) = (scratch.plan.tokenCount, scratch.plan.copies)
    scratch.input.reshape(
      tokenCount: tokens + scratch.plan.pairCount, columns: hidden, formats: formats)
    unsafe x.withUnsafePointer { x in
      scratch.input.withWriter { writer in
        let grain = max(1, 65_536 / hidden)
        forEachRange(tokens, grain: grain) { range, _ in
          for token in range { unsafe writer.prepare(token, x + token * hidden) }
        }
        forEachRange(copies.count, grain: grain) { range, _ in
          for index in range {
            writer.copy(Int(copies[index].token), to: Int(copies[index].row))
          }
        }
      }
    }
  }

  /// Tells the recorder which tokens meet which expert's gate and up.
  private func record(
    _ x: borrowing Buffer<Float>, _ hidden: Int, _ shared: SwiGLU?, _ experts: [SwiGLU],
    _ plan: ExpertPlan, _ recorder: InputRecorder
  ) {
    unsafe x.withUnsafePointer { x in
      for run in plan.runs {
        let expert = plan.weights(of: run, shared, experts)
        var tokens = Array(run.inputRow..<run.inputRow + run.count)
        for copy in plan.copies where tokens.contains(Int(copy.row)) {
          tokens[Int(copy.row) - run.inputRow] = Int(copy.token)
        }
        for token in tokens {
          for matrix in [expert.gateProjection, expert.upProjection] {
            unsafe recorder.add(
              x + token * hidden, 0..<hidden, token: token, matrix: matrix.values.base)
          }
        }
      }
    }
  }

  private func makeTasks(
    _ shared: SwiGLU?, _ experts: [SwiGLU], _ sliceCount: Int, _ scratch: inout FeedForwardScratch
  ) {
    var width = 0
    var formats: WeightMatrix.FormatSet = []
    for run in scratch.plan.runs {
      let expert = scratch.plan.weights(of: run, shared, experts)
      precondition(
        expert.width % sliceCount == 0, "\(expert.width) columns do not make \(sliceCount) slices")
      width = max(width, expert.width)
      formats.formUnion(expert.downProjection.formats)
    }
    scratch.product.reshape(
      tokenCount: scratch.plan.slotCount, columns: width, formats: formats)
    scratch.runs.removeAll(keepingCapacity: true)
    for run in scratch.plan.runs {
      let expert = scratch.plan.weights(of: run, shared, experts)
      let (gate, up) = (expert.gateProjection, expert.upProjection)
      let down = expert.downProjection
      var task = unsafe RunTask(
        gate: scratch.input.task(gate, from: run.inputRow),
        up: scratch.input.task(up, from: run.inputRow),
        down: scratch.product.task(down, from: run.firstSlot),
        gateKernel: kernels.linear(gate.format), upKernel: kernels.linear(up.format),
        downKernel: kernels.linear(down.format), width: expert.width, firstSlot: run.firstSlot,
        count: run.count)
      unsafe task.down.slices = sliceCount
      scratch.runs.append(task)
    }
  }

  // MARK: Gate and up

  /// One job for some rows of an expert: both products, their SwiGLU, and the operands of down.
  private func gateAndUp(_ scratch: inout FeedForwardScratch) {
    let (rows, tokens) = scratch.planJobs(workers: team.workerCount)
    let (runs, jobs, kernelScratch) = (scratch.runs, scratch.jobs, self.scratch)
    let table = unsafe kernels.table
    let products = rows * tokens
    kernelScratch.reserve(perWorker: Int(CK_LINEAR_SCRATCH) + 4 * (2 * products + rows), shared: 0)
    scratch.product.withWriter { writer in
      unsafe runs.withUnsafeBufferPointer { runs in
        unsafe jobs.withUnsafeBufferPointer { jobs in
          team.run(chunkCount: jobs.count) { chunk, worker in
            let piece = unsafe kernelScratch.piece(of: worker)
            let memory = unsafe (piece + Int(CK_LINEAR_SCRATCH))
              .assumingMemoryBound(to: Float.self)
            let job = unsafe jobs[chunk]
            // A worker's next job is likely to be the one behind the other workers'.
            let later = unsafe jobs[min(jobs.count - 1, chunk + team.workerCount)]
            let next = unsafe runs[later.run].gate
            unsafe gateAndUp(
              job, runs[job.run], table, piece, gate: memory, up: memory + products,
              row: memory + 2 * products, writer,
              next: next.values + later.rows.lowerBound * next.row_stride)
          }
        }
      }
    }
  }

  private func gateAndUp(
    _ job: Job, _ run: RunTask, _ table: UnsafePointer<ck_kernels>,
    _ piece: UnsafeMutableRawPointer, gate: UnsafeMutablePointer<Float>,
    up: UnsafeMutablePointer<Float>, row: UnsafeMutablePointer<Float>,
    _ writer: LinearInputWriter, next: UnsafeRawPointer
  ) {
    let (first, count) = (job.rows.lowerBound, job.rows.count)
    let (token0, token1) = (job.tokens.lowerBound, job.tokens.upperBound)
    // The kernel writes row n of token t to output + t · stride + n: move its origin.
    let shift = token0 * count + first
    var task = unsafe run.gate
    unsafe task.output = gate - shift
    unsafe task.output_stride = count
    unsafe task.next = run.up.values + first * run.up.row_stride
    unsafe run.gateKernel(&task, first, first + count, token0, token1, piece)
    unsafe task = run.up
    unsafe task.output = up - shift
    unsafe task.output_stride = count
    unsafe task.next = next
    unsafe run.upKernel(&task, first, first + count, token0, token1, piece)
    for token in job.tokens {
      let at = (token - token0) * count
      unsafe table.pointee.swiglu(row, gate + at, up + at, count)
      unsafe recorder?.add(row, job.rows, token: token, matrix: run.down.values)
      unsafe writer.prepare(run.firstSlot + token, row, job.rows, of: run.width)
    }
  }

  // MARK: Down

  /// One job for some rows of all experts: their products by slice, and each token's sum.
  private func downAndCombine(
    _ scratch: inout FeedForwardScratch, _ sliceCount: Int, _ hidden: Int, planeStride: Int,
    into output: inout Buffer<Float>
  ) {
    let rows = scratch.rowsOfDown(hidden, sliceCount, workers: team.workerCount)
    let (runs, kernelScratch) = (scratch.runs, self.scratch)
    let (terms, starts) = (scratch.plan.terms, scratch.plan.termStarts)
    let slotFloats = scratch.plan.slotCount * sliceCount * rows
    kernelScratch.reserve(perWorker: Int(CK_LINEAR_SCRATCH) + 4 * slotFloats, shared: 0)
    let table = unsafe kernels.table
    unsafe output.withUnsafeMutablePointer { output in
      unsafe runs.withUnsafeBufferPointer { runs in
        unsafe terms.withUnsafeBufferPointer { terms in
          unsafe starts.withUnsafeBufferPointer { starts in
            team.run(chunkCount: (hidden + rows - 1) / rows) { chunk, worker in
              let piece = unsafe kernelScratch.piece(of: worker)
              let slots = unsafe (piece + Int(CK_LINEAR_SCRATCH))
                .assumingMemoryBound(to: Float.self)
              let range = chunk * rows..<min(hidden, (chunk + 1) * rows)
              for index in 0..<runs.count {
                let later = unsafe runs[index + 1 < runs.count ? index + 1 : 0].down
                let row =
                  index + 1 < runs.count
                  ? range.lowerBound : range.lowerBound + team.workerCount * rows
                let next = unsafe later.values + min(row, hidden - 1) * later.row_stride
                unsafe down(runs[index], range, sliceCount, slots, piece, next: next)
              }
              for token in 0..<starts.count - 1 {
                let (first, last) = unsafe (starts[token], starts[token + 1])
                unsafe table.pointee.combine(
                  output + token * hidden + range.lowerBound, planeStride, slots, sliceCount,
                  range.count, terms.baseAddress.map { unsafe $0 + first }, last - first)
              }
            }
          }
        }
      }
    }
  }

  private func down(
    _ run: RunTask, _ rows: Range<Int>, _ sliceCount: Int, _ slots: UnsafeMutablePointer<Float>,
    _ piece: UnsafeMutableRawPointer, next: UnsafeRawPointer
  ) {
    var task = unsafe run.down
    unsafe task.next = next
    unsafe task.slice_stride = rows.count
    unsafe task.output_stride = sliceCount * rows.count
    unsafe task.output = slots + run.firstSlot * task.output_stride - rows.lowerBound
    unsafe run.downKernel(&task, rows.lowerBound, rows.upperBound, 0, run.count, piece)
  }
}

extension LinearInput {
  /// Products of prepared rows from `row` on; the output is to be filled in.
  fileprivate func task(_ weights: WeightMatrix, from row: Int) -> ck_linear {
    var task: ck_linear?
    unsafe withRows(for: weights.format) { rows, kind in
      let stride = ck_operand_bytes(kind, columns)
      unsafe task = ck_linear(
        weights, operand: rows + row * stride, kind: kind, columns: columns)
    }
    guard let task = unsafe task else { preconditionFailure("rows for \(weights.format)") }
    return unsafe task
  }
}

// How the work is cut; the cut never changes the results.
extension FeedForwardScratch {
  /// Weights that one job should read, so that the prefetchers get going and threads end together.
  private static let jobBytes = 1 << 18
  /// Bytes of partial results that one job keeps in the caches; fewer rows would cost more.
  private static let slotBytes = 1 << 21
  private static let tokensPerJob = 512
  /// Below this many multiply-adds a second thread costs more than it gives.
  private static let serialWork = 1 << 16

  /// Cuts gate and up into jobs; returns the most rows and tokens that one has.
  fileprivate mutating func planJobs(workers: Int) -> (rows: Int, tokens: Int) {
    var (allRows, work, rowBytes) = (0, 0, 1)
    for run in runs {
      allRows += run.width
      unsafe work += 2 * run.width * run.gate.columns * run.count
      rowBytes = max(rowBytes, unsafe run.gate.row_stride + run.up.row_stride)
    }
    let balanced = work < Self.serialWork ? allRows : allRows / (4 * workers)
    // Operands are written in groups of 128.
    let rows = max(
      128, min(512, Self.jobBytes / rowBytes, (balanced + 127) / 128 * 128) / 128 * 128)
    jobs.removeAll(keepingCapacity: true)
    var tokens = 0
    for (index, run) in runs.enumerated() {
      for token in stride(from: 0, to: run.count, by: Self.tokensPerJob) {
        let last = min(run.count, token + Self.tokensPerJob)
        tokens = max(tokens, last - token)
        for row in stride(from: 0, to: run.width, by: rows) {
          jobs.append(
            Job(run: index, rows: row..<min(run.width, row + rows), tokens: token..<last))
        }
      }
    }
    return (rows, tokens)
  }

  /// Rows of down that one job takes.
  fileprivate func rowsOfDown(_ hidden: Int, _ sliceCount: Int, workers: Int) -> Int {
    var (work, allBytes, rowBytes) = (0, 0, 1)
    for run in runs {
      unsafe work += hidden * run.down.columns * run.count
      allBytes += unsafe run.down.row_stride
      rowBytes = max(rowBytes, unsafe run.down.row_stride)
    }
    if work < Self.serialWork { return hidden }
    let wanted = max(Self.jobBytes / allBytes, Self.jobBytes / 4 / rowBytes)
    let balanced = hidden / (4 * workers)
    let fitting = Self.slotBytes / (4 * plan.slotCount * sliceCount)
    return max(16, min(wanted, balanced, fitting) / 16 * 16)
  }
}
