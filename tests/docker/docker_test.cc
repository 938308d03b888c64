// The pure parts of the flavor local_docker: frames of a log, configuration, the container to create, how it ended,
// images.
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "backends/api/platform_thread.h"
#include "backends/docker/attempt_place.h"
#include "backends/docker/config.h"
#include "backends/docker/container.h"
#include "backends/docker/container_end.h"
#include "backends/docker/container_log.h"
#include "backends/docker/frames.h"
#include "backends/docker/image.h"
#include "backends/docker/inspected.h"
#include "backends/docker/secret_folder.h"

namespace orch::docker {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string Frame(char stream, const std::string& text) {
  std::string out = {stream, 0, 0, 0, 0, 0, static_cast<char>(text.size() >> 8), static_cast<char>(text.size() & 0xFF)};
  return out + text;
}

// Does nothing by itself.
class IdleHands {
 public:
  void Connect(void*) {}
  void Poll() {
    MutexLock lock(&mutex_);
    while (!std::exchange(woken_, false)) changed_.Wait(&mutex_);
  }
  void Wake() {
    MutexLock lock(&mutex_);
    woken_ = true;
    changed_.NotifyAll();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool woken_ = false;
};

TEST(PlatformThreadTest, WhatIsAwaitedIsAskedOnItsThreadBehindWhatWasPosted) {
  using std::chrono::milliseconds;
  IdleHands hands;
  PlatformThread<IdleHands, void> thread(&hands);
  thread.Start(nullptr);
  int left = 2;  // the thread's
  EXPECT_FALSE(thread.WaitUntil([&] { return left == 0; }, milliseconds(30)));
  thread.Post([&] { --left; });
  thread.Post([&] { --left; });
  EXPECT_TRUE(thread.WaitUntil([&] { return left == 0; }, std::chrono::minutes(1))) << "without another word";
  int asked = 0;
  EXPECT_TRUE(thread.WaitUntil([&] { return ++asked == 3; }, std::chrono::minutes(1))) << "it comes to pass later";
  thread.Stop();
  EXPECT_FALSE(thread.WaitUntil([] { return true; }, milliseconds(1))) << "there is nobody to say so";
}

TEST(FramesTest, AnyPiecesGiveTheSame) {
  const std::string all = Frame(1, "out") + Frame(2, "") + Frame(2, "error") + Frame(1, std::string(300, 'x'));
  for (size_t size = 1; size <= all.size(); ++size) {
    Frames frames;
    std::string out[2];
    for (size_t at = 0; at < all.size(); at += size) {
      ASSERT_TRUE(
          frames.Feed(all.substr(at, size), [&](bool e, absl::string_view s) { out[e].append(s.data(), s.size()); }));
    }
    EXPECT_EQ(out[0], "out" + std::string(300, 'x'));
    EXPECT_EQ(out[1], "error");
    EXPECT_TRUE(frames.whole());
  }
}

TEST(FramesTest, WhatIsNoStreamIsSaid) {
  Frames frames;
  const auto nobody = [](bool, absl::string_view) { FAIL(); };
  EXPECT_FALSE(frames.Feed("plain text", nobody));
  EXPECT_FALSE(frames.Feed(Frame(1, "x"), nobody)) << "from then on";
  EXPECT_FALSE(frames.whole());
}

TEST(ContainerLogTest, IsGoneOnWithWhereTheFileEnds) {
  const std::filesystem::path dir =
      std::filesystem::path(::testing::TempDir()) / ("container-log-" + std::to_string(getpid()));
  std::filesystem::remove_all(dir);
  const std::string prefix = (dir / "0.1").string();
  const auto read = [&](const char* end) {
    std::ifstream in(prefix + end);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  {
    ContainerLog log;
    log.Open(prefix);
    EXPECT_TRUE(log.Feed(Frame(1, "one") + Frame(2, "bad").substr(0, 9)));
  }
  ContainerLog log;  // another life of the daemon is sent it all again
  log.Open(prefix);
  EXPECT_TRUE(log.Feed(Frame(1, "one") + Frame(2, "bad") + Frame(1, "two")));
  EXPECT_EQ(read(".out"), "onetwo");
  EXPECT_EQ(read(".err"), "bad");
  EXPECT_EQ(log.total(), 9);
}

TEST(ContainerLogTest, AFullDiskIsSaidAndWhatIsMissingComesLater) {
  const std::filesystem::path dir =
      std::filesystem::path(::testing::TempDir()) / ("container-log-full-" + std::to_string(getpid()));
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  const std::string prefix = (dir / "0.1").string();
  std::filesystem::create_symlink("/dev/full", prefix + ".out");
  {
    ContainerLog log;
    log.Open(prefix);
    EXPECT_THAT(log.fault(), IsEmpty());
    EXPECT_FALSE(log.Feed(Frame(1, "one")));
    EXPECT_FALSE(log.Feed(Frame(2, "bad"))) << "from then on";
    EXPECT_THAT(log.fault(), HasSubstr("0.1.out: No space left on device"));
  }
  std::filesystem::remove(prefix + ".out");
  ContainerLog log;
  log.Open(prefix);
  EXPECT_TRUE(log.Feed(Frame(1, "one") + Frame(2, "bad")));
  EXPECT_EQ(log.total(), 6);
}

TEST(SecretFolderTest, FilesForAContainerInAFolderForNobodyElse) {
  const std::filesystem::path root =
      std::filesystem::path(::testing::TempDir()) / ("secrets-instance-" + std::to_string(getpid())) / "docker";
  std::filesystem::remove_all(root.parent_path());
  SecretFolder folder(root.string());
  const auto read = [](const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const auto made = folder.Write("k1", {{"PW", "one", false}, {"KEY", std::string("a\0b", 3), true}}, {{"T", "token"}});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(read(*made + "/env/PW"), "one");
  EXPECT_EQ(read(*made + "/file/KEY"), std::string("a\0b", 3));
  EXPECT_EQ(read(*made + "/plain/T"), "token");
  const auto mode = [](const std::filesystem::path& path) {
    return static_cast<int>(std::filesystem::status(path).permissions());
  };
  EXPECT_EQ(mode(root.parent_path()), 0700);
  EXPECT_EQ(mode(root), 0700);
  EXPECT_EQ(mode(*made + "/env/PW"), 0444);
  std::ifstream open_file(*made + "/env/PW");
  ASSERT_TRUE(folder.Write("k1", {{"PW", "two", false}}, {}).ok());
  EXPECT_EQ(read(*made + "/env/PW"), "two");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(open_file), {}), "one") << "who has it open keeps it";
  ASSERT_TRUE(folder.Write("k2", {}, {}).ok());
  folder.RemoveOthers({"k2"});
  EXPECT_FALSE(std::filesystem::exists(root / "k1"));
  EXPECT_TRUE(std::filesystem::exists(root / "k2"));
  folder.Remove("k2");
  EXPECT_FALSE(std::filesystem::exists(root / "k2"));
  EXPECT_EQ(SecretFolder("").Write("k", {}, {}).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(AttemptPlacesTest, WhichEngineIsAskedToStartItIsNotedOrSaidNotToBe) {
  const std::filesystem::path data =
      std::filesystem::path(::testing::TempDir()) / ("attempt-places-" + std::to_string(getpid()));
  std::filesystem::remove_all(data);
  std::filesystem::create_directories(data / "docker" / "o");
  BackendContext context;
  context.orchestrator = "o";
  context.data_dir = data.string();
  const Config config;
  AttemptPlaces places(&context, &config);
  EXPECT_EQ(places.AskedBefore("k", "one"), Asked::kNone);
  std::filesystem::create_directory(data / "docker" / "o" / "k.started-by.new");  // in the way, as a full disk is
  const absl::Status status = places.AboutToStart("k", "one");
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(status.message(), HasSubstr("k.started-by: Is a directory; its start is put off"));
  EXPECT_EQ(places.AskedBefore("k", "one"), Asked::kNone) << "nobody was";
  std::filesystem::remove(data / "docker" / "o" / "k.started-by.new");
  EXPECT_TRUE(places.AboutToStart("k", "one").ok());
  EXPECT_EQ(places.AskedBefore("k", "one"), Asked::kThis);
  EXPECT_EQ(places.AskedBefore("k", "two"), Asked::kEarlier);
  std::filesystem::remove_all(data);
}

using nlohmann::json;

ContainerFacts FactsOf(Settings settings) {
  ContainerFacts facts;
  facts.instance = "i";
  facts.orchestrator = "o";
  facts.image = "image:1";
  facts.image_path = "/bin";
  facts.user = "7:8";
  facts.settings = std::move(settings);
  facts.mounts = {{"/data/blobs", "/data/blobs", true}};
  return facts;
}

TEST(ContainerTest, SaysAllThatTheStepAsksFor) {
  AttemptWork work;
  work.name.key = "abc";
  work.name.step = "train[2]";
  work.name.attempt = 3;
  work.command = {"python3", "-c", "x"};
  work.env = {{"A", "b=c"}};
  work.working_dir = "/here";
  work.resources.cpu_millis = 1500;
  work.resources.memory = 64 << 20;
  work.resources.gpu = 2;
  Settings settings;
  settings.network = "none";
  settings.shm_bytes = 1 << 20;
  settings.mounts = {{"volume", "/v", false}};
  const json request = json::parse(ContainerRequest(work, FactsOf(settings)));
  EXPECT_EQ(request["Image"], "image:1");
  EXPECT_EQ(request["Entrypoint"], json({"python3", "-c", "x"})) << "and so nothing of the image's";
  EXPECT_EQ(request["Env"], json({"A=b=c", "PATH=/bin:/.orch/bin"}));
  EXPECT_EQ(request["User"], "7:8");
  EXPECT_EQ(request["Labels"][kKeyLabel], "abc");
  EXPECT_EQ(request["Labels"]["io.orchd.attempt"], "3");
  const json& host = request["HostConfig"];
  EXPECT_EQ(host["NanoCpus"], 1'500'000'000);
  EXPECT_EQ(host["Memory"], 64 << 20);
  EXPECT_EQ(host["MemorySwap"], 64 << 20) << "no swap";
  EXPECT_EQ(host["DeviceRequests"][0]["Count"], 2);
  EXPECT_EQ(host["NetworkMode"], "none");
  EXPECT_EQ(host["ShmSize"], 1 << 20);
  EXPECT_EQ(host["RestartPolicy"]["Name"], "no");
  EXPECT_EQ(host["AutoRemove"], false);
  ASSERT_EQ(host["Mounts"].size(), 2u);
  EXPECT_EQ(host["Mounts"][0]["Type"], "bind");
  EXPECT_EQ(host["Mounts"][0]["ReadOnly"], true);
  EXPECT_EQ(host["Mounts"][1]["Type"], "volume");
}

TEST(ContainerTest, WhatIsNotAskedForIsNotThere) {
  AttemptWork work;
  work.env = {{"PATH", "/mine"}};
  work.command = {"\xff"};  // no UTF-8: no reason to fall over
  Settings settings;
  settings.user = "1000";
  const json request = json::parse(ContainerRequest(work, FactsOf(settings)));
  EXPECT_EQ(request["Env"], json({"PATH=/mine"}));
  EXPECT_EQ(request["User"], "1000");
  for (const char* name : {"Memory", "MemorySwap", "DeviceRequests", "NetworkMode", "ShmSize"}) {
    EXPECT_FALSE(request["HostConfig"].contains(name)) << name;
  }
}

// As an engine says it.
ContainerState State(int code, json more = json::object()) {
  json state = {{"ExitCode", code},
                {"StartedAt", "2026-01-01T00:00:00.5Z"},
                {"FinishedAt", "2026-01-01T00:00:01Z"},
                {"Error", ""},
                {"OOMKilled", false}};
  state.update(more);
  return ReadInspected(json{{"State", state}, {"HostConfig", {{"Memory", 1000}}}}.dump(), "", "")->state;
}

TEST(ContainerEndTest, EndsAreToldApart) {
  ContainerFate fate;
  AttemptEnd end = EndOf(State(0), fate).end;
  EXPECT_EQ(end.reason, Reason::kNone);
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.ended_wall - end.started_wall, 500'000);
  EXPECT_EQ(EndOf(State(0, {{"OOMKilled", true}}), fate).end.reason, Reason::kNone) << "one of its children";
  end = EndOf(State(3), fate).end;
  EXPECT_EQ(end.reason, Reason::kExitCode);
  EXPECT_EQ(end.exit_code, 3);
  end = EndOf(State(139), fate).end;
  EXPECT_EQ(end.reason, Reason::kSignaled);
  EXPECT_EQ(end.signal, 11);
  end = EndOf(State(137, {{"OOMKilled", true}}), fate).end;
  EXPECT_EQ(end.reason, Reason::kOutOfMemory);
  EXPECT_THAT(end.message, HasSubstr("1000 bytes"));
  fate.log_tail = "more\norch-launch: out of memory: the kernel ended a process of this step\n";
  end = EndOf(State(137), fate).end;
  EXPECT_EQ(end.reason, Reason::kOutOfMemory);
  EXPECT_THAT(end.message, HasSubstr("1000 bytes"));
  EXPECT_EQ(EndOf(State(0), fate).end.reason, Reason::kNone);
  fate.log_tail += "the command's own last line\n";
  EXPECT_EQ(EndOf(State(137), fate).end.reason, Reason::kSignaled);
  fate.log_tail.clear();
  ContainerState unlimited = State(137, {{"OOMKilled", true}});
  unlimited.memory = 0;
  EXPECT_THAT(EndOf(unlimited, fate).end.message, HasSubstr("no limit of its own"));
  EXPECT_EQ(EndOf(State(255), fate).end.exit_code, 255) << "no signal";
  EXPECT_EQ(EndOf(State(127), fate).end.exit_code, 127) << "a shell's own";
  fate.program = "prog";
  fate.log_head = "[FATAL tini (7)] exec prog failed: Exec format error\nmore";
  end = EndOf(State(127), fate).end;
  EXPECT_EQ(end.reason, Reason::kCommandNotFound);
  EXPECT_TRUE(end.never_started);
  EXPECT_THAT(end.message, HasSubstr("`prog`"));
  EXPECT_THAT(end.message, HasSubstr("Exec format error)"));
}

TEST(ContainerEndTest, WhatWasNeverStarted) {
  const json never = {{"StartedAt", "0001-01-01T00:00:00Z"}};
  ContainerFate fate;
  json more = never;
  more["Error"] = "could not select device driver \"\" with capabilities: [[gpu]]";
  AttemptEnd end = EndOf(State(128, more), fate).end;
  EXPECT_EQ(end.reason, Reason::kUnschedulable);
  EXPECT_TRUE(end.never_started);
  EXPECT_THAT(end.message, HasSubstr("[[gpu]]")) << "the engine's own words";
  more["Error"] = "exec: \"x\": executable file not found in $PATH";
  EXPECT_EQ(EndOf(State(128, more), fate).end.reason, Reason::kCommandNotFound);
  EXPECT_EQ(EndOf(State(126, never), fate).end.reason, Reason::kCommandNotFound);
}

TEST(ContainerEndTest, WhatIsKnownHereCounts) {
  ContainerFate fate;
  fate.broken_off = true;
  EXPECT_TRUE(EndOf(State(137), fate).lost);
  EXPECT_FALSE(EndOf(State(3), fate).lost) << "it ended by itself";
  EXPECT_FALSE(EndOf(State(0), fate).lost);
  json never = {{"StartedAt", "0001-01-01T00:00:00Z"}};
  for (const int code : {0, 137}) EXPECT_TRUE(EndOf(State(code, never), fate).lost) << "it may have begun";
  never["Error"] = "no such device";
  EXPECT_FALSE(EndOf(State(128, never), fate).lost) << "it was refused";
  EXPECT_TRUE(EndOf(State(255), fate).lost) << "the engine does not know either";
  EXPECT_FALSE(EndOf(State(255), {}).lost);
  fate.stop_sent = true;
  EXPECT_FALSE(EndOf(State(137), fate).lost);
  EXPECT_TRUE(EndOf(State(137), fate).end.stopped);
  fate = {};
  fate.over_limit = true;
  fate.stdout_bytes = 5;
  EXPECT_EQ(EndOf(State(137), fate).end.reason, Reason::kLogLimit);
  fate = {};
  fate.log_fault = "no room";
  EXPECT_EQ(EndOf(State(0), fate).end.message, "its log is not whole: no room");
  EXPECT_EQ(EndOf(State(0), fate).end.reason, Reason::kNone) << "the step did what it should";
  EXPECT_EQ(EndOf(State(4), fate).end.message, "exit code 4; its log is not whole: no room");
  EXPECT_EQ(EndOf(ContainerState(), {}).end.reason, Reason::kUnschedulable) << "nothing is known";
}

TEST(ImageTest, References) {
  const auto same = [](const char* text, const char* repository, const char* tag, const char* registry) {
    const ImageReference got = ParseImage(text);
    EXPECT_EQ(got.repository, repository);
    EXPECT_EQ(got.tag, tag);
    EXPECT_EQ(got.registry, registry);
  };
  same("python", "python", "latest", "docker.io");
  same("python:3", "python", "3", "docker.io");
  same("me/app", "me/app", "latest", "docker.io");
  same("localhost:5000/app", "localhost:5000/app", "latest", "localhost:5000");
  same("ghcr.io/me/app:v1", "ghcr.io/me/app", "v1", "ghcr.io");
  same("ghcr.io/me/app@sha256:00", "ghcr.io/me/app@sha256:00", "", "ghcr.io");
  same("localhost/app", "localhost/app", "latest", "localhost");
}

TEST(ConfigTest, Registries) {
  const auto good =
      ReadConfig(R"({"host":"unix:///s","registries":{"h:1":{"username":"u","secret":"s"},"t":{"secret":"x"}}})");
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->registries.at("h:1").username, "u");
  EXPECT_EQ(good->registries.at("t").secret, "x");
  for (const char* text : {R"({"registries":1})", R"({"registries":{"h":1}})", R"({"registries":{"h":{}}})",
                           R"({"registries":{"h":{"secret":"x","password":"y"}}})"}) {
    EXPECT_FALSE(ReadConfig(text).ok()) << text;
  }
}

TEST(ConfigTest, Certificates) {
  const std::filesystem::path dir =
      std::filesystem::path(::testing::TempDir()) / ("certificates-" + std::to_string(getpid()));
  std::filesystem::create_directories(dir);
  const std::string text = json{{"host", "tcp://h:2376"}, {"certificates", dir.string()}}.dump();
  EXPECT_THAT(ViolationsOf(ReadConfig(text).status()), SizeIs(3)) << "none of them is there";
  for (const char* name : {"ca.pem", "cert.pem", "key.pem"}) std::ofstream(dir / name) << "x";
  auto good = ReadConfig(text);
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->address.host, "h:2376");
  EXPECT_EQ(good->address.certificates, dir.string());
  setenv("DOCKER_TLS_VERIFY", "1", 1);
  setenv("DOCKER_CERT_PATH", dir.c_str(), 1);
  good = ReadConfig(R"({"host":"tcp://h:2376"})");
  unsetenv("DOCKER_TLS_VERIFY");
  unsetenv("DOCKER_CERT_PATH");
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->address.certificates, dir.string());
  EXPECT_EQ(ReadConfig(R"({"host":"tcp://h:2375"})")->address.certificates, "");
  EXPECT_FALSE(ReadConfig(R"({"host":"unix:///s","certificates":"/x"})").ok());
}

TEST(InspectedTest, WhatIsNoContainerIsNone) {
  for (const char* text : {"", "[]", "{}", "{\"State\":null}", "{\"Id\":\"x\",\"Sta"}) {
    EXPECT_FALSE(ReadInspected(text, "k", "i").has_value()) << text;
    EXPECT_FALSE(ReadEvent(text).has_value()) << text;
  }
  const auto odd =
      ReadInspected(R"({"Id":3,"State":{"ExitCode":"0","StartedAt":7,"OOMKilled":1},"Config":[]})", "k", "i");
  ASSERT_TRUE(odd.has_value());
  EXPECT_FALSE(odd->ours || odd->alive || odd->fresh);
  EXPECT_EQ(odd->state.exit_code, -1);
}

TEST(InspectedTest, Events) {
  const auto died = ReadEvent(
      R"({"Type":"container","Action":"die","timeNano":1500000000000000999,"Actor":{"ID":"x","Attributes":{"exitCode":"3","io.orchd.key":"k"}}})");
  ASSERT_TRUE(died.has_value());
  EXPECT_EQ(died->key, "k");
  EXPECT_EQ(died->id, "x");
  EXPECT_EQ(died->exit_code, 3);
  EXPECT_EQ(died->wall, 1'500'000'000'000'000);
  const auto removed = ReadEvent(R"({"Action":"destroy","Actor":{"ID":"x","Attributes":{"exitCode":"0"}}})");
  ASSERT_TRUE(removed.has_value());
  EXPECT_FALSE(removed->exit_code.has_value());
  EXPECT_FALSE(ReadEvent(R"({"Action":"die","Actor":{"Attributes":{"exitCode":"much"}}})")->exit_code.has_value());
}

TEST(ImageTest, Path) {
  EXPECT_EQ(PathOf(R"({"Config":{"Env":["A=b","PATH=/x:/y"]}})"), "/x:/y");
  for (const char* text : {"", "[]", "{}", R"({"Config":null})", R"({"Config":{"Env":[1]}})"}) {
    EXPECT_THAT(PathOf(text), HasSubstr("/usr/bin")) << text;
  }
}

TEST(ImageTest, ProgressOfAPull) {
  PullProgress progress;
  progress.Feed(R"({"status":"Downloading","progressDetail":{"current":2000000,"total":7000000},"id":"a"})");
  EXPECT_EQ(progress.Words(), "") << "not known to be whole";
  progress.Feed("\nnonsense\n[]\n{\"progressDetail\":3,\"status\":\"Waiting\"}\n");
  EXPECT_EQ(progress.Words(), "Waiting");
  progress.Feed("{\"status\":\"Downloading\",\"progressDetail\":{\"current\":2000000,\"total\":7000000}}\r\n");
  EXPECT_EQ(progress.Words(), "Downloading 2 of 7 MB");
  EXPECT_EQ(progress.fault(), "");
  progress.Feed("{\"errorDetail\":{\"message\":\"x\"},\"error\":\"no basic auth credentials\"}\n");
  EXPECT_EQ(progress.fault(), "no basic auth credentials");
}

TEST(ConfigTest, SaysAllThatIsWrong) {
  const auto bad = ReadConfig(R"({"host":"ssh://x","pull":"often","colour":1,"mounts":["x"],"shm_size":"much"})");
  ASSERT_FALSE(bad.ok());
  EXPECT_THAT(ViolationsOf(bad.status()), SizeIs(5));
  const auto good =
      ReadConfig(R"({"host":"unix:///run/d.sock","image":"i","mounts":["/a:/b:ro","v:/c"],"memory":"1Gi"})");
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->address.socket, "/run/d.sock");
  EXPECT_EQ(good->capacity.memory, int64_t{1} << 30);
  ASSERT_THAT(good->settings.mounts, SizeIs(2));
  EXPECT_TRUE(good->settings.mounts[0].read_only);
  std::vector<std::string> faults;
  const Settings step = ReadSettings(good->settings, R"({"network":"none"})", &faults);
  EXPECT_THAT(faults, IsEmpty());
  EXPECT_EQ(step.network, "none");
  EXPECT_THAT(step.mounts, SizeIs(2)) << "what it does not say is its orchestrator's";
  (void)ReadSettings(good->settings, R"({"image":"x"})", &faults);
  ASSERT_THAT(faults, SizeIs(1));
  EXPECT_THAT(faults[0], HasSubstr("there are network, user, mounts, shm_size"));
}

}  // namespace
}  // namespace orch::docker
