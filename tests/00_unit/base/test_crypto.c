/* Published vectors: FIPS 180-4 examples, RFC 4231, GCM test cases 13 to 16 (McGrew and Viega), RFC
 * 4648. */
#include "check.h"

#include <string.h>

#include "base/crypto.h"

/* Hex text into bytes; returns how many. */
static size_t unhex(const char *hex, unsigned char *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        out[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    return n;
}

static void is_hex(const unsigned char *bytes, size_t n, const char *expected)
{
    char text[256];
    assert_true(2 * n < sizeof(text));
    crypto_hex(bytes, n, text);
    assert_string_equal(text, expected);
}

static void crypto_hashes(void **state)
{
    (void)state;
    unsigned char out[CRYPTO_SHA256_BYTES];
    crypto_sha256(STR_LIT("abc"), out);
    is_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    crypto_sha256(STR_NULL, out);
    is_hex(out, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    crypto_sha256(STR_LIT("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), out);
    is_hex(out, 32, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void crypto_macs(void **state)
{
    (void)state;
    unsigned char out[CRYPTO_SHA256_BYTES];
    char key[131], data[50];
    memset(key, 0x0b, 20);
    crypto_hmac_sha256(str_make(key, 20), STR_LIT("Hi There"), out);
    is_hex(out, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    crypto_hmac_sha256(STR_LIT("Jefe"), STR_LIT("what do ya want for nothing?"), out);
    is_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, 20);
    memset(data, 0xdd, 50);
    crypto_hmac_sha256(str_make(key, 20), str_make(data, 50), out);
    is_hex(out, 32, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    memset(key, 0xaa, 131);
    crypto_hmac_sha256(str_make(key, 131),
                       STR_LIT("Test Using Larger Than Block-Size Key - Hash Key First"), out);
    is_hex(out, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    crypto_hmac_sha256(STR_NULL, STR_NULL, out);
    is_hex(out, 32, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void crypto_seals_as_published(void **state)
{
    (void)state;
    static const struct {
        const char *key, *nonce, *aad, *plain, *sealed, *tag;
    } cases[] = {
        {"0000000000000000000000000000000000000000000000000000000000000000",
         "000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
        {"0000000000000000000000000000000000000000000000000000000000000000",
         "000000000000000000000000", "", "00000000000000000000000000000000",
         "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
        {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
         "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
         "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24"
         "49a6b525b16aedf5aa0de657ba637b39",
         "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10"
         "56828838c5f61e6393ba7a0abcc9f662",
         "76fc6ece0f4e1768cddf8853bb2d551b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned char key[32], nonce[12], aad[32], plain[64], out[64], back[64], tag[16];
        unhex(cases[i].key, key);
        unhex(cases[i].nonce, nonce);
        struct str extra = str_make((char *)aad, unhex(cases[i].aad, aad));
        struct str text = str_make((char *)plain, unhex(cases[i].plain, plain));
        assert_int_equal(crypto_seal(key, nonce, extra, text, out, tag), RC_OK);
        is_hex(out, text.len, cases[i].sealed);
        is_hex(tag, 16, cases[i].tag);
        struct str sealed = str_make((char *)out, text.len);
        assert_int_equal(crypto_open(key, nonce, extra, sealed, tag, back), RC_OK);
        assert_memory_equal(back, plain, text.len);
    }
}

static void crypto_opens_only_what_was_sealed(void **state)
{
    (void)state;
    unsigned char key[32], nonce[12], out[5], back[5], tag[16];
    static const unsigned char zeros[5];
    crypto_random(key, sizeof(key));
    crypto_random(nonce, sizeof(nonce));
    struct str aad = STR_LIT("name"), sealed = str_make((char *)out, 5);
    assert_int_equal(crypto_seal(key, nonce, aad, STR_LIT("words"), out, tag), RC_OK);
    unsigned char *parts[] = {key, nonce, out, tag};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        parts[i][3] ^= 1;
        memset(back, 'x', sizeof(back));
        assert_int_equal(crypto_open(key, nonce, aad, sealed, tag, back), RC_CORRUPT);
        assert_memory_equal(back, zeros, sizeof(back));
        parts[i][3] ^= 1;
    }
    assert_int_equal(crypto_open(key, nonce, STR_LIT("other"), sealed, tag, back), RC_CORRUPT);
    assert_int_equal(crypto_open(key, nonce, aad, sealed, tag, back), RC_OK);
    assert_memory_equal(back, "words", 5);
}

static void crypto_writes_base64url(void **state)
{
    (void)state;
    static const struct {
        struct str bytes;
        const char *text;
    } cases[] = {
        {STR_LIT(""), ""},
        {STR_LIT("f"), "Zg"},
        {STR_LIT("fo"), "Zm8"},
        {STR_LIT("foo"), "Zm9v"},
        {STR_LIT("foob"), "Zm9vYg"},
        {STR_LIT("fooba"), "Zm9vYmE"},
        {STR_LIT("\xff\xef\xfe"), "_-_-"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[16];
        crypto_base64url(cases[i].bytes.ptr, cases[i].bytes.len, out);
        assert_string_equal(out, cases[i].text);
        assert_int_equal(strlen(out), crypto_base64url_len(cases[i].bytes.len));
    }
}

static void crypto_compares_and_keeps_secrets(void **state)
{
    (void)state;
    struct secret s;
    char long_text[SECRET_BYTES_MAX + 1] = {0};
    unsigned char a[32], b[32];
    assert_true(crypto_equal(STR_LIT("same"), STR_LIT("same")));
    assert_false(crypto_equal(STR_LIT("same"), STR_LIT("sane")));
    assert_false(crypto_equal(STR_LIT("same"), STR_LIT("sam")));
    assert_true(crypto_equal(STR_NULL, STR_LIT("")));
    assert_true(secret_set(&s, STR_LIT("sk-bud-1")));
    assert_true(str_is(secret_str(&s), "sk-bud-1"));
    assert_false(secret_set(&s, str_make(long_text, sizeof(long_text))));
    assert_true(secret_set(&s, str_make(long_text, SECRET_BYTES_MAX)));
    secret_wipe(&s);
    assert_int_equal(secret_str(&s).len, 0);
    crypto_random(a, sizeof(a));
    crypto_random(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
}

static void a_prepared_key_gives_the_same_hmac(void **state)
{
    (void)state;
    unsigned char key[200], data[300], plain[CRYPTO_SHA256_BYTES], prepared[CRYPTO_SHA256_BYTES];
    crypto_random(key, sizeof(key));
    crypto_random(data, sizeof(data));
    for (size_t n = 0; n <= sizeof(key); n += 8) {
        struct crypto_hmac h;
        struct str text = str_make((const char *)data, n + 100);
        crypto_hmac_init(&h, str_make((const char *)key, n));
        crypto_hmac_sha256(str_make((const char *)key, n), text, plain);
        for (int twice = 0; twice < 2; twice++) {
            crypto_hmac_run(&h, text, prepared);
            assert_memory_equal(plain, prepared, sizeof(plain));
        }
        crypto_hmac_wipe(&h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prepared_key_gives_the_same_hmac),
        cmocka_unit_test(crypto_hashes),
        cmocka_unit_test(crypto_macs),
        cmocka_unit_test(crypto_seals_as_published),
        cmocka_unit_test(crypto_opens_only_what_was_sealed),
        cmocka_unit_test(crypto_writes_base64url),
        cmocka_unit_test(crypto_compares_and_keeps_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
