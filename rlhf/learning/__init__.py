"""The algorithms: demonstrations -> SFT -> reward model -> PPO, without Django.

python -m rlhf.learning RUN_FOLDER [--data-dir DIR] [--resume CHECKPOINT_FOLDER]
torchrun --nproc-per-node 2 -m rlhf.learning RUN_FOLDER
python -m rlhf.learning.models.base tiny|smol|FOLDER OUT [--corpus FILE.jsonl]
"""
