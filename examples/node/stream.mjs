// Stream an answer from Node, straight from the published protos.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const protos = fileURLToPath(new URL("../../protos", import.meta.url));
const definition = protoLoader.loadSync("paceline/v1/generation.proto", {
  includeDirs: [protos],
  keepCase: true,
  longs: String, // seeds have 64 bits
  enums: String,
  oneofs: true,
});
const { paceline } = grpc.loadPackageDefinition(definition);
const client = new paceline.v1.GenerationService(
  process.argv[2] ?? "localhost:7070",
  grpc.credentials.createInsecure(),
);

const deadline = Date.now() + 120_000;
const stream = client.Generate(
  { prompt: { text: "Once upon a time" }, seed: "7", max_tokens: 24 },
  { deadline },
);
stream.on("data", ({ event, started, delta, finished }) => {
  if (event === "started") console.error(`seed ${started.seed}, model ${started.model}`);
  if (event === "delta") process.stdout.write(delta.tokens.map((token) => token.text).join(""));
  if (event === "finished") {
    console.log(`\n${finished.usage.output_tokens} tokens, ${finished.finish_reason}`);
  }
});
stream.on("error", (error) => {
  console.error(`${grpc.status[error.code]}: ${error.details}`);
  process.exitCode = 1;
});
stream.on("end", () => client.close());
