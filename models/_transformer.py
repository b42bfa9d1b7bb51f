"""ViT, BERT and GPT-2: attention spelled out, heads by reshape and transpose.

The queries' scale 1/sqrt(64) is part of their weights, and attention masks (which would be added
inside the softmax) are left out, as in published block-level evaluations.
"""

from __future__ import annotations

from _blocks import image

from spm_opt.graph.builder import Handle, NetworkBuilder

#: features of one attention head, in all three networks
HEAD = 64


def _heads(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    """Batch, tokens, features -> batch, heads, tokens, features of a head."""
    x = b.reshape(x, (0, 0, -1, HEAD), name=f"{name}.reshape")
    return b.transpose(x, (0, 2, 1, 3), name=f"{name}.heads")


def _joined(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    """Heads side by side again."""
    x = b.transpose(x, (0, 2, 1, 3), name=f"{name}.transpose")
    return b.reshape(x, (0, 0, -1), name=f"{name}.merge")


def _qkv(
    b: NetworkBuilder, x: Handle, name: str, names: tuple[str, str, str]
) -> tuple[Handle, Handle, Handle]:
    width = x.shape[-1]
    q, k, v = (_heads(b, b.linear(x, width, name=f"{name}.{n}"), f"{name}.{n}") for n in names)
    return q, k, v


def _attention(b: NetworkBuilder, x: Handle, name: str, names: tuple[str, str, str]) -> Handle:
    q, k, v = _qkv(b, x, name, names)
    scores = b.matmul(q, k, transpose_b=True, name=f"{name}.scores")
    weights = b.softmax(scores, name=f"{name}.softmax")
    return _joined(b, b.matmul(weights, v, name=f"{name}.context"), name)


def _vit_block(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    y = b.layer_norm(x, name=f"{name}.norm1")
    y = _attention(b, y, f"{name}.attn", ("q", "k", "v"))
    x = b.add(x, b.linear(y, x.shape[-1], name=f"{name}.attn.proj"), name=f"{name}.add1")
    y = b.layer_norm(x, name=f"{name}.norm2")
    y = b.unary(
        b.linear(y, 4 * x.shape[-1], name=f"{name}.mlp.fc1"), "gelu", name=f"{name}.mlp.act"
    )
    return b.add(x, b.linear(y, x.shape[-1], name=f"{name}.mlp.fc2"), name=f"{name}.add2")


def vit_s_16(b: NetworkBuilder) -> None:
    """Dosovitskiy et al. 2020, DeiT's small size (384 features, 6 heads, 12 blocks), names as in
    timm. The class token is row 0 of the constant that also holds the positions."""
    x = b.conv(image(b, 224), 384, 16, 16, name="patch_embed.proj")
    x = b.reshape(x, (0, 0, -1), name="patch_embed.flatten")
    x = b.transpose(x, (0, 2, 1), name="patch_embed.transpose")
    x = b.pad(x, (0, 1, 0, 0, 0, 0), name="cls_token")
    x = b.add(x, constant=(197, 384), name="pos_embed")
    for i in range(12):
        x = _vit_block(b, x, f"blocks.{i}")
    x = b.layer_norm(x, name="norm")
    x = b.squeeze(b.slice(x, 1, 0, 1, name="pool"), 1, name="pool.squeeze")
    b.output(b.linear(x, 1000, name="head"))


def _bert_layer(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    y = _attention(b, x, f"{name}.attention.self", ("query", "key", "value"))
    y = b.linear(y, 768, name=f"{name}.attention.output.dense")
    y = b.add(x, y, name=f"{name}.attention.output.add")
    x = b.layer_norm(y, name=f"{name}.attention.output.LayerNorm")
    y = b.linear(x, 3072, name=f"{name}.intermediate.dense")
    y = b.unary(y, "gelu", name=f"{name}.intermediate.act")
    y = b.add(x, b.linear(y, 768, name=f"{name}.output.dense"), name=f"{name}.output.add")
    return b.layer_norm(y, name=f"{name}.output.LayerNorm")


def bert_base(b: NetworkBuilder) -> None:
    """Devlin et al. 2018, uncased, 12 layers, 128 tokens, with the pooler; names as in
    transformers. Only the 128 positions in use are counted of the 512 learned ones."""
    ids = b.input("input_ids", (1, 128), "int32")
    types = b.input("token_type_ids", (1, 128), "int32")
    words = b.embedding(ids, 30522, 768, name="embeddings.word_embeddings")
    kinds = b.embedding(types, 2, 768, name="embeddings.token_type_embeddings")
    x = b.add(words, kinds, name="embeddings.add")
    x = b.add(x, constant=(128, 768), name="embeddings.position_embeddings")
    x = b.layer_norm(x, name="embeddings.LayerNorm")
    for i in range(12):
        x = _bert_layer(b, x, f"encoder.layer.{i}")
    first = b.squeeze(b.slice(x, 1, 0, 1, name="pooler.first"), 1, name="pooler.squeeze")
    pooled = b.unary(b.linear(first, 768, name="pooler.dense"), "tanh", name="pooler.activation")
    b.output(x, pooled)


def _gpt2_mlp(b: NetworkBuilder, x: Handle, attended: Handle) -> Handle:
    """From the attention's heads joined to the block's output."""
    x = b.add(x, b.linear(attended, 768, name="attn.c_proj"), name="attn.add")
    y = b.layer_norm(x, name="ln_2")
    y = b.unary(b.linear(y, 3072, name="mlp.c_fc"), "gelu", name="mlp.act")
    return b.add(x, b.linear(y, 768, name="mlp.c_proj"), name="mlp.add")


def gpt2_small_prefill(b: NetworkBuilder) -> None:
    """Radford et al. 2019, one block of the small model over a prompt of 512 tokens."""
    x = b.input("hidden", (1, 512, 768))
    y = _attention(b, b.layer_norm(x, name="ln_1"), "attn", ("q", "k", "v"))
    b.output(_gpt2_mlp(b, x, y))


def gpt2_small_decode(b: NetworkBuilder) -> None:
    """Radford et al. 2019, one block of the small model, one token after 512 cached ones. The
    cache is read, never copied: scores against it and against the token itself are joined."""
    x = b.input("hidden", (1, 1, 768))
    keys = b.input("past_key", (1, 12, 512, HEAD))
    values = b.input("past_value", (1, 12, 512, HEAD))
    q, k, v = _qkv(b, b.layer_norm(x, name="ln_1"), "attn", ("q", "k", "v"))
    old = b.matmul(q, keys, transpose_b=True, name="attn.scores.past")
    new = b.matmul(q, k, transpose_b=True, name="attn.scores.self")
    weights = b.softmax(b.concat((old, new), 3, name="attn.scores"), name="attn.softmax")
    past, own = b.split(weights, (512, 1), 3, name="attn.weights")
    past = b.matmul(past, values, name="attn.context.past")
    own = b.matmul(own, v, name="attn.context.self")
    y = _joined(b, b.add(past, own, name="attn.context"), "attn")
    b.output(_gpt2_mlp(b, x, y), k, v)


MODELS = (vit_s_16, bert_base, gpt2_small_prefill, gpt2_small_decode)
