// Frames between daemon and supervisor: a message that is read is written as it was; a stream gives the same frames in
// any pieces.
#include "backends/local/wire.h"

#include "tests/fuzz/fuzz.h"

namespace orch::local {
namespace {

template <typename Message>
void RoundTrip(FrameType type, std::string_view body) {
  Message message;
  if (!Decode(body, &message)) return;
  const std::string frame = Encode(message);
  REQUIRE(frame.size() == body.size() + 5 && std::string_view(frame).substr(5) == body);
  REQUIRE(static_cast<FrameType>(frame[4]) == type);
}

// Between versions only the first field counts, and the rest may look different; what was read of it is kept.
template <typename Message>
void FirstField(std::string_view body) {
  Message message;
  if (!Decode(body, &message)) return;
  const std::string frame = Encode(message);
  Message again;
  REQUIRE(Decode(std::string_view(frame).substr(5), &again));
  REQUIRE(Encode(again) == frame);
}

void AsEach(std::string_view body) {
  FirstField<Hello>(body);
  FirstField<Upgrade>(body);
  RoundTrip<Welcome>(FrameType::kWelcome, body);
  RoundTrip<Spawn>(FrameType::kSpawn, body);
  RoundTrip<Started>(FrameType::kStarted, body);
  RoundTrip<Exited>(FrameType::kExited, body);
  RoundTrip<Cancel>(FrameType::kCancel, body);
  RoundTrip<Ack>(FrameType::kAck, body);
  RoundTrip<Opened>(FrameType::kOpened, body);
  RoundTrip<Spawning>(FrameType::kSpawning, body);
  RoundTrip<Spawned>(FrameType::kSpawned, body);
  RoundTrip<Stopping>(FrameType::kStopping, body);
  RoundTrip<Holding>(FrameType::kHolding, body);
  RoundTrip<CaptureState>(FrameType::kCapture, body);
}

std::vector<std::string> Frames(std::string_view bytes, size_t piece, bool* broken) {
  std::vector<std::string> out;
  FrameReader reader;
  *broken = false;
  while (!bytes.empty() && !*broken) {
    const size_t n = std::min(piece, bytes.size());
    reader.Append(bytes.substr(0, n));
    bytes.remove_prefix(n);
    while (const auto frame = reader.Next(broken)) {
      out.push_back(static_cast<char>(frame->type) + std::string(frame->body));
    }
  }
  return out;
}

}  // namespace
}  // namespace orch::local

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = orch::fuzz::View(data, size);
  bool broken = false;
  bool broken_in_pieces = false;
  const std::vector<std::string> frames = orch::local::Frames(bytes, size + 1, &broken);
  REQUIRE(orch::local::Frames(bytes, 1, &broken_in_pieces) == frames && broken_in_pieces == broken);
  for (const std::string& frame : frames) orch::local::AsEach(std::string_view(frame).substr(1));
  orch::local::AsEach(bytes);
  return 0;
}
