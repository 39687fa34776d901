// swift-tools-version: 6.2
import PackageDescription

/// The settings every Swift target shares: strict concurrency, strict memory safety, no warnings.
let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableExperimentalFeature("Lifetimes"),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
]

/// The package manager keeps frame pointers; without that register the widest tiles of the kernels
/// move their sums through memory, at two thirds of the speed. Given so that the later flag loses.
let allRegisters = ["-Xclang", "-mframe-pointer=none"]

/// One library target; its arrows are exactly `imports` (ARCHITECTURE.md, checked by the linter).
func module(
  _ name: String, imports: [String] = [], resources: [Resource] = []
) -> Target {
  .target(
    name: name, dependencies: imports.map { .target(name: $0) }, resources: resources,
    swiftSettings: settings)
}

func tests(_ name: String, imports: [String], resources: [Resource] = []) -> Target {
  .testTarget(
    name: name, dependencies: imports.map { .target(name: $0) }, resources: resources,
    swiftSettings: settings)
}

let package = Package(
  name: "swift-step3",
  products: [.executable(name: "step3", targets: ["step3"])],
  targets: [
    // C: arithmetic, and shims over system libraries.
    .target(name: "CKernels", cSettings: [.define("_GNU_SOURCE"), .unsafeFlags(allRegisters)]),
    .systemLibrary(name: "CPCRE2", pkgConfig: "libpcre2-8", providers: [.apt(["libpcre2-dev"])]),
    .systemLibrary(
      name: "CEvent", pkgConfig: "libevent_openssl", providers: [.apt(["libevent-dev"])]),
    .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(
      name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
    .target(
      name: "CImageCodecs", cSettings: [.define("_GNU_SOURCE")],
      linkerSettings: ["jpeg", "png16", "webp", "webpdemux", "gif"].map { .linkedLibrary($0) }),
    .systemLibrary(name: "CUCX", pkgConfig: "ucx", providers: [.apt(["libucx-dev"])]),

    // Values.
    module("JSONScanning"),
    module("ModelConfiguration", imports: ["JSONScanning"]),
    module("Tensors", imports: ["JSONScanning"]),

    // Mechanism.
    module("Kernels", imports: ["CKernels", "Tensors"]),
    module("KVCaching", imports: ["Tensors"]),
    module("Tokenization", imports: ["JSONScanning", "CPCRE2"]),
    module("Sampling"),
    module("OutputParsing", imports: ["JSONScanning"]),
    module("ConstrainedDecoding", imports: ["JSONScanning"]),
    module("Conversion", imports: ["Tensors", "JSONScanning"]),
    module("ImageProcessing", imports: ["ModelConfiguration", "CImageCodecs"]),
    module("ImageFetching", imports: ["CCurl", "CCrypto"]),
    module("Quantization", imports: ["Tensors", "Kernels", "JSONScanning"]),

    // Model and policy.
    module(
      "Step3Model", imports: ["ModelConfiguration", "Tensors", "Kernels", "KVCaching"]),
    module("Scheduling", imports: ["KVCaching"]),
    module(
      "CostModel", imports: ["JSONScanning", "ModelConfiguration"],
      resources: [
        .embedInCode("Catalogue/models.json"), .embedInCode("Catalogue/hardware.json"),
        .embedInCode("Catalogue/efficiencies.json"),
      ]),

    // Attention-FFN disaggregation.
    module(
      "Disaggregation",
      imports: [
        "Step3Model", "Tensors", "Kernels", "ModelConfiguration", "JSONScanning",
      ]),
    module("UCXTransport", imports: ["Disaggregation", "Tensors", "CUCX"]),
    module("ClusterControl", imports: ["Disaggregation", "Kernels", "JSONScanning", "CCrypto"]),

    // Composition.
    module("Simulation", imports: ["JSONScanning", "Scheduling", "KVCaching", "CostModel"]),
    module(
      "Planning", imports: ["JSONScanning", "CostModel", "Simulation"],
      resources: [.embedInCode("Published/report.json")]),
    module(
      "Inference",
      imports: [
        "Step3Model", "Scheduling", "KVCaching", "Sampling", "Tokenization", "Tensors", "Kernels",
        "ModelConfiguration", "OutputParsing", "ConstrainedDecoding", "JSONScanning",
        "ImageProcessing",
      ]),

    // Edge.
    module("CommandLineInterface"),
    module(
      "Serving",
      imports: [
        "Inference", "Tokenization", "Sampling", "OutputParsing", "ConstrainedDecoding", "CEvent",
        "JSONScanning", "ImageFetching", "ImageProcessing", "ClusterControl",
      ], resources: [.copy("Resources")]),
    .executableTarget(
      name: "step3",
      dependencies: [
        "ClusterControl", "CommandLineInterface", "ConstrainedDecoding", "Conversion", "CostModel",
        "Disaggregation", "ImageProcessing", "Inference", "JSONScanning", "KVCaching", "Kernels",
        "ModelConfiguration", "OutputParsing", "Planning", "Quantization", "Sampling",
        "Scheduling", "Serving", "Simulation", "Step3Model", "Tensors", "Tokenization",
        "UCXTransport",
      ],
      swiftSettings: settings),

    // Tests: one target per target, and the whole binary end to end.
    .target(
      name: "TestSupport", dependencies: ["Tensors"], path: "Tests/TestSupport",
      swiftSettings: settings),
    .target(
      name: "DisaggregationTestSupport", dependencies: ["Disaggregation", "Tensors"],
      path: "Tests/DisaggregationTestSupport", swiftSettings: settings),
    .executableTarget(
      name: "TransportPeer", dependencies: ["Disaggregation", "Tensors", "UCXTransport"],
      path: "Tests/TransportPeer", swiftSettings: settings),
    tests("JSONScanningTests", imports: ["JSONScanning"]),
    tests("ModelConfigurationTests", imports: ["ModelConfiguration", "JSONScanning"]),
    tests("TensorsTests", imports: ["Tensors", "TestSupport"]),
    tests("KernelsTests", imports: ["Kernels", "Tensors", "TestSupport"]),
    tests("KVCachingTests", imports: ["KVCaching", "Tensors", "TestSupport"]),
    tests("TokenizationTests", imports: ["Tokenization", "JSONScanning", "TestSupport"]),
    tests("SamplingTests", imports: ["Sampling", "TestSupport"]),
    tests("OutputParsingTests", imports: ["OutputParsing", "JSONScanning", "TestSupport"]),
    tests(
      "ConstrainedDecodingTests",
      imports: ["ConstrainedDecoding", "JSONScanning", "OutputParsing", "TestSupport"]),
    tests(
      "ConversionTests",
      imports: ["Conversion", "JSONScanning", "ModelConfiguration", "Tensors", "TestSupport"]),
    tests(
      "Step3ModelTests",
      imports: [
        "JSONScanning", "Step3Model", "ModelConfiguration", "Kernels", "KVCaching", "Tensors",
        "TestSupport",
      ]),
    tests(
      "ImageProcessingTests",
      imports: ["ImageProcessing", "JSONScanning", "ModelConfiguration", "TestSupport"]),
    tests("ImageFetchingTests", imports: ["ImageFetching", "TestSupport"]),
    tests(
      "QuantizationTests",
      imports: [
        "Quantization", "JSONScanning", "Kernels", "ModelConfiguration", "Step3Model", "Tensors",
        "TestSupport",
      ]),
    tests(
      "DisaggregationTests",
      imports: [
        "Disaggregation", "DisaggregationTestSupport", "JSONScanning", "Step3Model",
        "ModelConfiguration", "Kernels", "KVCaching", "Tensors", "TestSupport", "Inference",
        "Sampling", "Scheduling", "ClusterControl",
      ]),
    tests(
      "UCXTransportTests",
      imports: [
        "UCXTransport", "Disaggregation", "DisaggregationTestSupport", "Tensors", "TestSupport",
      ]),
    tests(
      "ClusterControlTests",
      imports: ["ClusterControl", "Disaggregation", "Kernels", "TestSupport"]),
    tests("SchedulingTests", imports: ["Scheduling", "KVCaching"]),
    tests("CostModelTests", imports: ["CostModel", "JSONScanning", "TestSupport"]),
    tests("SimulationTests", imports: ["Simulation", "Scheduling", "CostModel"]),
    tests(
      "PlanningTests",
      imports: [
        "Planning", "ClusterControl", "CostModel", "Simulation", "JSONScanning", "TestSupport",
      ]),
    tests(
      "InferenceTests",
      imports: [
        "ImageProcessing", "Inference", "KVCaching", "Kernels", "Sampling", "Scheduling",
        "Step3Model", "Tensors", "TestSupport", "Tokenization",
      ]),
    tests("CommandLineInterfaceTests", imports: ["CommandLineInterface"]),
    tests(
      "ServingTests",
      imports: [
        "Serving", "ClusterControl", "ConstrainedDecoding", "ImageProcessing", "Inference",
        "ModelConfiguration", "Sampling", "JSONScanning", "TestSupport",
      ]),
    tests("EndToEndTests", imports: ["Tensors", "TestSupport"]),
  ],
  swiftLanguageModes: [.v6]
)
