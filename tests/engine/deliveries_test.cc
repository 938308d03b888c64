// What launchers deliver: uploads that go on, outputs made of them, ends, and what a restart finds.
#include "server/engine/deliveries.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/base/digest.h"
#include "server/base/folder_listing.h"
#include "server/base/status.h"
#include "server/engine/attempt_task.h"
#include "server/engine/blob_store.h"
#include "server/engine/outputs.h"

namespace {

// What was synced, by inode: the program's own fsync notes it.
std::mutex synced_mutex;
std::set<ino_t> synced;

bool Synced(const std::string& path) {
  struct stat st {};
  const std::lock_guard<std::mutex> lock(synced_mutex);
  return stat(path.c_str(), &st) == 0 && synced.count(st.st_ino) > 0;
}

}  // namespace

extern "C" int fsync(int fd) {
  struct stat st {};
  if (fstat(fd, &st) == 0) {
    const std::lock_guard<std::mutex> lock(synced_mutex);
    synced.insert(st.st_ino);
  }
  return static_cast<int>(syscall(SYS_fsync, fd));
}

namespace orch {
namespace {

namespace fs = std::filesystem;

class DeliveriesTest : public testing::Test {
 protected:
  DeliveriesTest() : dir_(testing::TempDir() + "deliveries-" + Hex(RandomBytes(6))) {
    fs::create_directories(dir_);
    Open();
    EXPECT_TRUE(deliveries_->PutTask("k", "task").ok());
  }
  ~DeliveriesTest() override { fs::remove_all(dir_); }

  void Open() { deliveries_ = std::make_unique<Deliveries>(dir_, DeliveryLimits{1000, 5, 2}); }

  absl::StatusOr<Deliveries::Progress> Send(const std::string& hex, int64_t offset, int64_t length,
                                            const std::string& bytes) {
    auto upload = deliveries_->Append("k", hex, offset, length);
    if (!upload.ok()) return upload.status();
    const absl::Status appended = (*upload)->Append(bytes);
    if (!appended.ok()) return appended;
    return (*upload)->Finish();
  }
  std::string Put(const std::string& bytes) {
    const std::string hex = Hex(Sha256Of(bytes));
    const auto sent = Send(hex, 0, static_cast<int64_t>(bytes.size()), bytes);
    EXPECT_TRUE(sent.ok() && sent->complete) << sent.status();
    return hex;
  }
  std::string Read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }

  const std::string dir_;
  std::unique_ptr<Deliveries> deliveries_;
};

TEST_F(DeliveriesTest, AnUploadGoesOnAlsoInTheNextDaemon) {
  const std::string bytes = "0123456789";
  const std::string hex = Hex(Sha256Of(bytes));
  ASSERT_EQ(Send(hex, 0, 10, "0123")->offset, 4);
  const auto elsewhere = Send(hex, 3, 10, "x");
  EXPECT_EQ(ReasonOf(elsewhere.status()), "UPLOAD_OFFSET");
  EXPECT_EQ(FactOf(elsewhere.status()).second, "4");
  ASSERT_EQ(Send(hex, 4, 10, "45")->offset, 6);
  Open();
  EXPECT_EQ(deliveries_->ProgressOf("k", hex)->offset, 6);
  const auto whole = Send(hex, 6, 10, "6789");
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_TRUE(whole->complete);
  EXPECT_EQ(FactOf(Send(hex, 10, 10, "").status()).second, "10");
  EXPECT_TRUE(deliveries_->ProgressOf("k", hex)->complete);
}

TEST_F(DeliveriesTest, OtherBytesThanTheDigestSaysAreDropped) {
  const std::string hex = Hex(Sha256Of("right"));
  EXPECT_EQ(ReasonOf(Send(hex, 0, 5, "wrong").status()), "DIGEST_MISMATCH");
  EXPECT_EQ(deliveries_->ProgressOf("k", hex)->offset, 0);
  ASSERT_EQ(Send(hex, 0, 5, "ri")->offset, 2);
  Open();  // the digest is taken of all of it again
  EXPECT_EQ(ReasonOf(Send(hex, 2, 5, "xxx").status()), "DIGEST_MISMATCH");
  EXPECT_EQ(Put("right"), hex);
}

TEST_F(DeliveriesTest, TheNewestCallHasTheUpload) {
  const std::string hex = Hex(Sha256Of("abcd"));
  auto first = deliveries_->Append("k", hex, 0, 4);
  ASSERT_TRUE((*first)->Append("ab").ok());
  auto second = deliveries_->Append("k", hex, 2, 4);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(ReasonOf((*first)->Append("cd")), "UPLOAD_TAKEN_OVER");
  EXPECT_EQ(ReasonOf((*first)->Finish().status()), "UPLOAD_TAKEN_OVER");
  ASSERT_TRUE((*second)->Append("cd").ok());
  EXPECT_TRUE((*second)->Finish()->complete);
}

TEST_F(DeliveriesTest, LimitsAtAndPastThem) {
  EXPECT_TRUE(deliveries_->Append("k", std::string(64, 'a'), 0, 1000).ok());
  EXPECT_EQ(ReasonOf(deliveries_->Append("k", std::string(64, 'a'), 0, 1001).status()), "ARTIFACT_TOO_LARGE");
  auto one = deliveries_->Append("k", std::string(64, 'a'), 0, 10);
  auto two = deliveries_->Append("k", std::string(64, 'b'), 0, 10);
  EXPECT_EQ(ReasonOf(deliveries_->Append("k", std::string(64, 'c'), 0, 10).status()), "TOO_MANY_UPLOADS");
  one->reset();
  EXPECT_TRUE(deliveries_->Append("k", std::string(64, 'c'), 0, 10).ok());
  EXPECT_EQ(ReasonOf((*two)->Append("01234567890")), "UPLOAD_TOO_LONG");
  EXPECT_EQ(ReasonOf(deliveries_->Append("k", std::string(64, 'c'), 11, 10).status()), "UPLOAD_INVALID");
  EXPECT_EQ(ReasonOf(deliveries_->Append("k", std::string(64, 'c'), -1, 10).status()), "UPLOAD_INVALID");
  EXPECT_EQ(ReasonOf(deliveries_->Append("other", std::string(64, 'c'), 0, 10).status()), "TASK_NOT_FOUND");
}

TEST(FolderListing, ALinkStaysInsideWhateverOtherLinksThereAre) {
  EXPECT_TRUE(LinkStaysInside("a/b/link", "../../c/d"));
  EXPECT_TRUE(LinkStaysInside("link", "./a//b"));
  EXPECT_FALSE(LinkStaysInside("a/link", "../../c"));
  EXPECT_FALSE(LinkStaysInside("link", "/etc"));
  // a/b/up is a link to the folder itself: from there one `..` more is outside.
  EXPECT_TRUE(LinkStaysInside("a/b/up", "../.."));
  EXPECT_FALSE(LinkStaysInside("link", "a/b/up/.."));
}

TEST_F(DeliveriesTest, AFolderIsMadeOfItsListing) {
  std::vector<FolderEntry> entries;
  entries.push_back({"s", FolderEntry::Kind::kFolder, false, ""});
  entries.push_back({"s/same", FolderEntry::Kind::kFile, true, Sha256Of("x")});
  entries.push_back({"x", FolderEntry::Kind::kFile, false, Sha256Of("x")});
  entries.push_back({"l", FolderEntry::Kind::kLink, false, "s/same"});
  const std::string listing = Put(WriteListing(entries));
  EXPECT_EQ(ReasonOf(deliveries_->PutOutput("k", "o", listing, true)), "BLOB_NOT_DELIVERED");
  Put("x");
  ASSERT_TRUE(deliveries_->PutOutput("k", "o", listing, true).ok());
  const std::string out = deliveries_->OutputDir("k") + "/o";
  EXPECT_EQ(Read(out + "/l"), "x");
  struct stat st {};
  ASSERT_EQ(stat((out + "/s/same").c_str(), &st), 0);
  EXPECT_TRUE(st.st_mode & S_IXUSR);
  ASSERT_EQ(stat((out + "/x").c_str(), &st), 0);
  EXPECT_FALSE(st.st_mode & S_IXUSR);
  EXPECT_EQ(Sha256Of(*ListFolder(out, nullptr)), Sha256Of(WriteListing(entries)));
  // Again, and with something else.
  ASSERT_TRUE(deliveries_->PutOutput("k", "o", listing, true).ok());
  ASSERT_TRUE(deliveries_->PutOutput("k", "o", Put("file"), false).ok());
  EXPECT_EQ(Read(out), "file");
  entries.push_back({"y", FolderEntry::Kind::kFolder, false, ""});
  ASSERT_TRUE(deliveries_->PutOutput("k", "o", Put(WriteListing(entries)), true).ok());
  entries.push_back({"z", FolderEntry::Kind::kFolder, false, ""});
  EXPECT_EQ(ReasonOf(deliveries_->PutOutput("k", "o", Put(WriteListing(entries)), true)), "LISTING_TOO_LARGE");
}

TEST_F(DeliveriesTest, AnOutputIsOnTheDiskOnceItIsMade) {
  std::vector<FolderEntry> entries;
  entries.push_back({"s", FolderEntry::Kind::kFolder, false, ""});
  entries.push_back({"s/empty", FolderEntry::Kind::kFolder, false, ""});
  entries.push_back({"s/run", FolderEntry::Kind::kFile, true, Sha256Of("run")});
  entries.push_back({"x", FolderEntry::Kind::kFile, false, Sha256Of("x")});
  const std::string listing = Put(WriteListing(entries));
  for (const char* bytes : {"x", "run"}) Put(bytes);
  ASSERT_TRUE(deliveries_
                  ->Receive("k", Hex(Sha256Of("received")),
                            [](const std::string& path) {
                              std::ofstream(path) << "received";
                              return absl::OkStatus();
                            })
                  .ok());
  const std::string out = deliveries_->OutputDir("k");
  const std::string blobs = dir_ + "/deliveries/k/blobs";
  {
    const std::lock_guard<std::mutex> lock(synced_mutex);
    synced.clear();
  }
  ASSERT_TRUE(deliveries_->PutOutput("k", "d", listing, true).ok());
  for (const char* path : {"/d", "/d/s", "/d/s/empty", "/d/s/run", "/d/x", ""}) EXPECT_TRUE(Synced(out + path)) << path;
  EXPECT_TRUE(Synced(blobs));
  ASSERT_TRUE(deliveries_->PutOutput("k", "f", Hex(Sha256Of("received")), false).ok());
  EXPECT_TRUE(Synced(out + "/f"));
}

TEST_F(DeliveriesTest, WhatIsNotedOfAnAttemptIsOnTheDiskOnceItIsNoted) {
  const std::string dir = dir_ + "/deliveries/k";
  const auto noted = [&](const std::string& name, const std::function<absl::Status()>& note) {
    {
      const std::lock_guard<std::mutex> lock(synced_mutex);
      synced.clear();
    }
    ASSERT_TRUE(note().ok()) << name;
    EXPECT_TRUE(Synced(dir + "/" + name)) << name;
    EXPECT_TRUE(Synced(dir)) << "the name of " << name;
  };
  noted("task.json", [&] { return deliveries_->PutTask("k", "task again"); });
  EXPECT_TRUE(Synced(dir_ + "/deliveries")) << "the folder's own name";
  noted("launcher", [&] { return deliveries_->Begin("k", "one").status(); });
  noted("handed.json", [&] { return deliveries_->PutHanded("k", "all of it").status(); });
  noted("end.json", [&] { return deliveries_->PutEnd("k", "end"); });
}

TEST_F(DeliveriesTest, APieceThatCouldNotBeWrittenLeavesNothing) {
  const std::string hex = Hex(Sha256Of("abcd"));
  ASSERT_EQ(Send(hex, 0, 4, "a")->offset, 1);
  struct rlimit before {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  auto upload = deliveries_->Append("k", hex, 1, 4);
  struct rlimit small = before;
  small.rlim_cur = 2;  // one byte more is written, and then no other
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status failed = (*upload)->Append("bcd");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, handler);
  EXPECT_FALSE(failed.ok());
  upload->reset();
  EXPECT_EQ(deliveries_->ProgressOf("k", hex)->offset, 1);
  const auto whole = Send(hex, 1, 4, "bcd");
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_TRUE(whole->complete);
}

TEST_F(DeliveriesTest, BytesThatSomebodyElseAddedAreReadAgain) {
  const std::string hex = Hex(Sha256Of("abcd"));
  ASSERT_EQ(Send(hex, 0, 4, "ab")->offset, 2);
  std::ofstream(absl::StrCat(dir_, "/deliveries/k/parts/", hex), std::ios::app) << "c";
  const auto whole = Send(hex, 3, 4, "d");
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_TRUE(whole->complete);
}

TEST_F(DeliveriesTest, NothingIsTakenOnceTheEndIsJudged) {
  const std::string hex = Hex(Sha256Of("ab")), here = Put("here");
  auto upload = deliveries_->Append("k", hex, 0, 2);
  ASSERT_TRUE((*upload)->Append("a").ok());
  auto whole = deliveries_->Append("k", Hex(Sha256Of("")), 0, 0);
  deliveries_->Close("k");
  EXPECT_EQ(ReasonOf((*upload)->Append("b")), "ATTEMPT_STALE");
  EXPECT_EQ(ReasonOf((*whole)->Finish().status()), "ATTEMPT_STALE");
  EXPECT_EQ(ReasonOf(deliveries_->ProgressOf("k", here).status()), "ATTEMPT_STALE");
  EXPECT_EQ(ReasonOf(deliveries_->PutOutput("k", "o", here, false)), "ATTEMPT_STALE");
  EXPECT_EQ(
      ReasonOf(deliveries_->Receive("k", Hex(Sha256Of("x")), [](const std::string&) { return absl::OkStatus(); })),
      "ATTEMPT_STALE");
  EXPECT_FALSE(fs::exists(deliveries_->OutputDir("k") + "/o"));
}

TEST_F(DeliveriesTest, AnOutputThatIsMadeWhileTheEndIsJudgedIsNotTaken) {
  const std::string hex = Put("bytes");
  ASSERT_TRUE(deliveries_->PutOutput("k", "o", Put("before"), false).ok());
  Open();
  deliveries_->SetVouch([&](const std::string&, absl::string_view) { deliveries_->Close("k"); });
  for (int i = 0; i < 2; ++i) {  // closed while it is made, and before
    EXPECT_EQ(ReasonOf(deliveries_->PutOutput("k", "o", hex, false)), "ATTEMPT_STALE");
    EXPECT_EQ(Read(deliveries_->OutputDir("k") + "/o"), "before");
    EXPECT_EQ(deliveries_->DigestOf("k", "o"), Sha256Of("before"));
  }
  EXPECT_TRUE(fs::is_empty(dir_ + "/deliveries/k/parts"));
}

TEST_F(DeliveriesTest, WhatHasJustBeenCheckedIsVouchedFor) {
  std::vector<std::pair<std::string, std::string>> vouched;
  const auto vouch = [&](const std::string& path, absl::string_view digest) {
    vouched.emplace_back(path, std::string(digest));
  };
  deliveries_->SetVouch(vouch);
  const std::string blobs = dir_ + "/deliveries/k/blobs/";
  const std::string sent = Put("sent"), received = Hex(Sha256Of("received"));
  ASSERT_TRUE(deliveries_
                  ->Receive("k", received,
                            [](const std::string& path) {
                              std::ofstream(path) << "received";
                              return absl::OkStatus();
                            })
                  .ok());
  Open();
  deliveries_->SetVouch(vouch);
  EXPECT_TRUE(deliveries_->ProgressOf("k", sent)->complete);
  EXPECT_TRUE(
      deliveries_->Receive("k", sent, [](const std::string&) { return absl::InternalError("it is here"); }).ok());
  EXPECT_THAT(vouched, testing::ElementsAre(testing::Pair(blobs + sent, Sha256Of("sent")),
                                            testing::Pair(blobs + received, Sha256Of("received")),
                                            testing::Pair(blobs + sent, Sha256Of("sent"))));
}

TEST_F(DeliveriesTest, AnAttemptThatComesAgainBeginsAnew) {
  const std::string hex = Put("here"), part = Hex(Sha256Of("0123456789"));
  auto upload = deliveries_->Append("k", part, 0, 10);
  ASSERT_TRUE((*upload)->Append("0123").ok());
  deliveries_->Remove("k");
  ASSERT_TRUE(deliveries_->PutTask("k", "task").ok());
  EXPECT_FALSE(deliveries_->ProgressOf("k", hex)->complete);
  std::ofstream(absl::StrCat(dir_, "/deliveries/k/blobs/", hex)) << "other";  // it is not known to be whole
  EXPECT_FALSE(deliveries_->ProgressOf("k", hex)->complete);
  const auto whole = Send(part, 0, 10, "0123456789");
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_TRUE(whole->complete);
}

TEST_F(DeliveriesTest, BytesOfAnEarlierLifeAreReadAgainBeforeTheyCount) {
  const std::string hex = Put("bytes"), good = Put("good");
  const std::string blob = absl::StrCat(dir_, "/deliveries/k/blobs/", hex);
  std::ofstream(blob) << "byte";  // as after a power loss
  Open();
  EXPECT_TRUE(deliveries_->ProgressOf("k", good)->complete);
  EXPECT_EQ(ReasonOf(deliveries_->PutOutput("k", "o", hex, false)), "BLOB_NOT_DELIVERED");
  EXPECT_FALSE(deliveries_->ProgressOf("k", hex)->complete);
  Put("bytes");
  std::ofstream(blob) << "byte";
  Open();
  bool asked = false;
  ASSERT_TRUE(deliveries_
                  ->Receive("k", hex,
                            [&](const std::string& path) {
                              asked = true;
                              std::ofstream(path) << "bytes";
                              return absl::OkStatus();
                            })
                  .ok());
  EXPECT_TRUE(asked);
  EXPECT_TRUE(deliveries_->PutOutput("k", "o", hex, false).ok());
}

TEST_F(DeliveriesTest, WhatIsStoredIsWhatWasDelivered) {
  auto blobs = BlobStore::Open(dir_, 10, [](absl::string_view) { return std::nullopt; });
  ASSERT_TRUE(blobs.ok()) << blobs.status();
  const std::string text = "more than ten bytes";
  std::vector<FolderEntry> entries;
  entries.push_back({"x", FolderEntry::Kind::kFile, true, Sha256Of(text)});
  ASSERT_TRUE(deliveries_->PutOutput("k", "f", Put(text), false).ok());
  ASSERT_TRUE(deliveries_->PutOutput("k", "d", Put(WriteListing(entries)), true).ok());
  ASSERT_TRUE(deliveries_->PutOutput("k", "v", Put("{ }"), false).ok());
  std::vector<OutputSpec> specs(3);
  specs[0].name = "f";
  specs[1].name = "d";
  specs[1].type = "dir";
  specs[2].name = "v";
  specs[2].value = true;
  const std::string out = deliveries_->OutputDir("k");
  const auto store = [&] {
    return StoreOutputs(
        specs, {false, false, false}, out, 100,
        [&](const std::string& name) { return deliveries_->DigestOf("k", name); }, blobs->get());
  };
  Open();
  const auto stored = store();
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ((*stored)[0].blob.digest, deliveries_->DigestOf("k", "f"));
  EXPECT_EQ((*stored)[1].blob.digest, deliveries_->DigestOf("k", "d"));
  EXPECT_EQ(deliveries_->DigestOf("k", "other"), "");
  for (const char* name : {"f", "d/x", "v"}) {
    const std::string path = absl::StrCat(out, "/", name), before = Read(path);
    fs::remove(path);
    std::ofstream(path) << (before == "{ }" ? "{}" : "other than these bytes");
    if (before == text && name[0] == 'd') chmod(path.c_str(), 0755);
    EXPECT_EQ(ReasonOf(store().status()), "DIGEST_MISMATCH") << name;
    fs::remove(path);
    std::ofstream(path) << before;
    if (name[0] == 'd') chmod(path.c_str(), 0755);
    EXPECT_TRUE(store().ok()) << name;
  }
}

TEST_F(DeliveriesTest, OneLauncherAndOneEnd) {
  EXPECT_EQ(*deliveries_->Begin("k", "one"), "task");
  EXPECT_EQ(*deliveries_->Begin("k", "one"), "task");
  EXPECT_EQ(ReasonOf(deliveries_->Begin("k", "two").status()), "ATTEMPT_TAKEN");
  EXPECT_FALSE(deliveries_->EndOf("k").has_value());
  EXPECT_TRUE(deliveries_->PutEnd("k", "first").ok());
  EXPECT_TRUE(deliveries_->PutEnd("k", "second").ok());
  EXPECT_EQ(*deliveries_->EndOf("k"), "first");
  deliveries_->Close("k");
  EXPECT_EQ(ReasonOf(deliveries_->Begin("k", "one").status()), "ATTEMPT_STALE");
  // Its platform did not know it after all, and gets it again.
  EXPECT_TRUE(deliveries_->PutTask("k", "task").ok());
  EXPECT_TRUE(deliveries_->Begin("k", "one").ok());
  deliveries_->Close("k");
  EXPECT_EQ(ReasonOf(deliveries_->Append("k", std::string(64, 'a'), 0, 1).status()), "ATTEMPT_STALE");
  EXPECT_EQ(ReasonOf(deliveries_->PutEnd("k", "third")), "ATTEMPT_STALE");
  EXPECT_EQ(ReasonOf(deliveries_->Begin("k", "one").status()), "ATTEMPT_STALE");
  deliveries_->Remove("k");
  EXPECT_FALSE(fs::exists(dir_ + "/deliveries/k"));
}

TEST_F(DeliveriesTest, AStartKeepsWhatIsLiveAlone) {
  ASSERT_TRUE(deliveries_->PutTask("gone", "task").ok());
  Open();
  deliveries_->RemoveOthers({"k"});
  EXPECT_TRUE(fs::exists(dir_ + "/deliveries/k"));
  EXPECT_FALSE(fs::exists(dir_ + "/deliveries/gone"));
}

TEST(MergeEnd, TheLauncherKnowsHowTheCommandEndedAndThePlatformWhy) {
  AttemptEnd end;
  ASSERT_TRUE(MergeEnd(R"({"exit_code": 3, "cpu_seconds": 1.5, "ended_micros": 7})", &end));
  EXPECT_EQ(end.reason, Reason::kExitCode);
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_EQ(end.cpu_seconds, 1.5);
  end = AttemptEnd();
  end.reason = Reason::kExitCode;
  end.exit_code = 125;
  ASSERT_TRUE(MergeEnd(R"({"reason": "INPUT_MISSING", "message": "why"})", &end));
  EXPECT_EQ(end.reason, Reason::kInputMissing);
  EXPECT_TRUE(end.never_started);
  EXPECT_EQ(end.message, "why");
  end = AttemptEnd();
  end.reason = Reason::kOutOfMemory;
  ASSERT_TRUE(MergeEnd(R"({"signal": 9})", &end));
  EXPECT_EQ(end.reason, Reason::kOutOfMemory);
  end = AttemptEnd();
  end.reason = Reason::kLost;
  ASSERT_TRUE(MergeEnd(R"({"exit_code": 0})", &end));
  EXPECT_EQ(end.reason, Reason::kNone);
  for (const char* none : {"", "[]", "{", "7"}) EXPECT_FALSE(MergeEnd(none, &end));
  ASSERT_TRUE(MergeEnd(R"({"exit_code": "x", "signal": [], "reason": 5, "message": {}, "cpu_seconds": "y"})", &end));
}

}  // namespace
}  // namespace orch
